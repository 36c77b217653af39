// Package azuread without Azure: nothing is written anywhere else here.
package azuread

import (
	"errors"
	"net/http"
)

// AzureADConfig has no fields: none can be set.
type AzureADConfig struct{}

// NewAzureADRoundTripper refuses.
func NewAzureADRoundTripper(*AzureADConfig, http.RoundTripper) (http.RoundTripper, error) {
	return nil, errors.New("this build knows no Azure")
}
