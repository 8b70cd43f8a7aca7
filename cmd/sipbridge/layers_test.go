package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// layers is the plan of the house (docs/architecture.md): a room imports only
// rooms of a higher number. dtmf belongs to transcode.
var layers = map[string]int{
	"cmd/sipbridge": 0, "interop-tests/lab/line": 0, "interop-tests/lab/phone": 0,
	"internal/sip": 1, "internal/browser": 1, "internal/portal": 1, "internal/admin": 1, "internal/edge": 1, "internal/demo": 1, "internal/announce": 1, "internal/load": 1,
	"internal/call":  2,
	"internal/media": 3, "internal/invite": 3, "internal/history": 3,
	"internal/transcode": 4, "internal/policy": 4, "internal/audit": 4, "internal/bus": 4,
	"internal/sdp": 5, "internal/config": 5, "internal/transcode/dtmf": 5, "web": 5,
}

// owners keep the types of a library in one room.
var owners = map[string][]string{
	"github.com/emiago/sipgo":    {"internal/sip"},
	"github.com/pion/webrtc":     {"internal/media", "internal/load"},
	"github.com/pion/ice":        {"internal/media", "internal/load"},
	"github.com/caddyserver":     {"internal/edge"},
	"github.com/pion/turn":       {"internal/edge", "internal/media"},
	"github.com/pion/sdp":        {"internal/sdp"},
	"github.com/nats-io":         {"internal/bus"},
	"cel.dev/cel-go":             {"internal/policy"},
	"github.com/nyaruka":         {"internal/policy"},
	"go.yaml.in/yaml":            {"internal/config"},
	"github.com/coder/websocket": {"internal/portal", "internal/edge", "internal/load"},
	"gopkg.in/hraban/opus.v2":    {"internal/transcode"},
	"github.com/urfave/cli":      {"cmd/sipbridge"},
}

const module = "github.com/sipbridge/sipbridge/"

func TestImportsPointDown(t *testing.T) {
	root := "../.."
	seen := map[string]bool{}
	// Through os, not go list: the test cache must notice a new import.
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules") {
			if err == nil {
				err = filepath.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ImportsOnly)
		if err != nil {
			return err
		}
		room := filepath.ToSlash(filepath.Dir(strings.TrimPrefix(filepath.ToSlash(path), root+"/")))
		layer, known := layers[room]
		if !known {
			t.Errorf("%s is in no room of the plan", path)
			return nil
		}
		seen[room] = true
		for _, i := range f.Imports {
			name := strings.Trim(i.Path.Value, `"`)
			if other, ours := strings.CutPrefix(name, module); ours {
				if below, ok := layers[other]; !ok || below <= layer {
					t.Errorf("%s imports %s: imports point down", path, other)
				}
			}
			for lib, rooms := range owners {
				if strings.HasPrefix(name, lib) && !contains(rooms, room) {
					t.Errorf("%s imports %s, which belongs to %v", path, name, rooms)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) < 14 {
		t.Errorf("only %d rooms were read", len(seen))
	}
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}
