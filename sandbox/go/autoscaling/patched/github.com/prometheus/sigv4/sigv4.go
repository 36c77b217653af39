// Package sigv4 without AWS: nothing is signed here.
package sigv4

import (
	"errors"
	"net/http"
)

// SigV4Config has no fields: none can be set.
type SigV4Config struct{}

// NewSigV4RoundTripper refuses.
func NewSigV4RoundTripper(*SigV4Config, http.RoundTripper) (http.RoundTripper, error) {
	return nil, errors.New("this build knows no AWS")
}
