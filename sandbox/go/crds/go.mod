module slipway/sandbox/crds

go 1.24.0

require (
	github.com/fluid-cloudnative/fluid v1.0.8
	github.com/prometheus-operator/prometheus-operator v0.85.0
	sigs.k8s.io/gateway-api v1.2.1
)
