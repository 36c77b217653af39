// Package ecs without AWS: its SDK is a fifth of all that Traefik is made of.
package ecs

import (
	"errors"

	"github.com/traefik/traefik/v3/pkg/config/dynamic"
	"github.com/traefik/traefik/v3/pkg/safe"
)

// Provider is of no use.
type Provider struct{}

// Init refuses.
func (*Provider) Init() error { return errors.New("this build knows no ECS") }

// Provide gives nothing.
func (*Provider) Provide(chan<- dynamic.Message, *safe.Pool) error { return nil }
