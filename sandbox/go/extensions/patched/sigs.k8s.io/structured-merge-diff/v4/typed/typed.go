// Package typed is version 6's: the Gateway API's client was made for Kubernetes' libraries of before that version, and
// only the name of the package keeps it from being compiled with those that are compiled here already.
package typed

import "sigs.k8s.io/structured-merge-diff/v6/typed"

type (
	Parser        = typed.Parser
	ParseableType = typed.ParseableType
	YAMLObject    = typed.YAMLObject
)

// NewParser is version 6's.
var NewParser = typed.NewParser
