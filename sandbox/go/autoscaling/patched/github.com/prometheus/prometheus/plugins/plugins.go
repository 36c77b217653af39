// Package plugins with the one discovery that is used here; the others bring every cloud's SDK.
package plugins

import (
	_ "github.com/prometheus/prometheus/discovery/kubernetes" // as upstream's list does
)
