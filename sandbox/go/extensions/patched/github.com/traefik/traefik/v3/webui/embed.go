// Package webui without the dashboard's files, which Traefik's module does not have: its releases build them.
package webui

import "embed"

// FS is empty.
var FS embed.FS
