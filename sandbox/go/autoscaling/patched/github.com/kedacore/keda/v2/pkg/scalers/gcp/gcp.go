// Package gcp without Google's cloud: a Prometheus here takes no token of it.
package gcp

import (
	"errors"
	"net/http"

	"github.com/kedacore/keda/v2/pkg/scalers/scalersconfig"
)

// GcpScopeMonitoringRead is asked for and not granted.
const GcpScopeMonitoringRead = ""

// ErrGoogleApplicationCrendentialsNotFound is what a scaler without credentials is told.
var ErrGoogleApplicationCrendentialsNotFound = errors.New("this build knows no Google cloud")

// GetGCPOAuth2HTTPTransport finds no credentials.
func GetGCPOAuth2HTTPTransport(
	*scalersconfig.ScalerConfig, http.RoundTripper, ...string,
) (http.RoundTripper, error) {
	return nil, ErrGoogleApplicationCrendentialsNotFound
}
