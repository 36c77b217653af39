// Package plugins without interpreters: Traefik's own runs middleware written in Go and WebAssembly, and links an
// interpreter of each.
package plugins

import (
	"context"
	"errors"
	"net/http"

	"github.com/traefik/traefik/v3/pkg/provider"
)

var errNone = errors.New("this build runs no plugins")

// Descriptor of a plugin.
type Descriptor struct{}

// LocalDescriptor of a plugin in a directory.
type LocalDescriptor struct{}

// Constructor of a middleware.
type Constructor func(context.Context, http.Handler) (http.Handler, error)

// ClientOptions of a Client.
type ClientOptions struct{ Output string }

// Client would fetch plugins.
type Client struct{}

// NewClient refuses.
func NewClient(ClientOptions) (*Client, error) { return nil, errNone }

// SetupRemotePlugins refuses.
func SetupRemotePlugins(*Client, map[string]Descriptor) error { return errNone }

// SetupLocalPlugins refuses.
func SetupLocalPlugins(map[string]LocalDescriptor) error { return errNone }

// Builder would build middleware and providers.
type Builder struct{}

// NewBuilder makes one, which Traefik wants also where no plugin is named.
func NewBuilder(*Client, map[string]Descriptor, map[string]LocalDescriptor) (*Builder, error) {
	return &Builder{}, nil
}

// Build refuses.
func (Builder) Build(string, map[string]interface{}, string) (Constructor, error) {
	return nil, errNone
}

// BuildProvider refuses.
func (Builder) BuildProvider(string, map[string]interface{}) (provider.Provider, error) {
	return nil, errNone
}
