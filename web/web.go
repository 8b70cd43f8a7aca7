// Package web holds the patient's page: plain ES modules, no build step.
package web

import (
	"embed"
	"io/fs"
)

//go:embed page
var files embed.FS

// Files are the page's files.
var Files = sub()

func sub() fs.FS {
	f, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // the directory is embedded above
	}
	return f
}
