module slipway/sandbox/gotemplate

go 1.25.0
