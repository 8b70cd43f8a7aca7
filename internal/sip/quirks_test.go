package sip

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	sipmsg "github.com/emiago/sipgo/sip"
)

// TestQuirks turns each message of testdata/quirks into the one after it.
func TestQuirks(t *testing.T) {
	docs, err := os.ReadFile("../../docs/trunks.md")
	if err != nil {
		t.Fatal(err)
	}
	read := func(f string) string {
		t.Helper()
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(string(b), "\n", "\r\n")
	}
	for _, q := range Quirks {
		if !strings.Contains(string(docs), "| `"+q.Name+"` |") {
			t.Errorf("docs/trunks.md does not tell of %s", q.Name)
		}
		if q.Source == "" || q.About == "" {
			t.Errorf("%s: it is not said where that is written", q.Name)
		}
		trunk := Trunk{Quirks: []string{q.Name}}
		before, err := filepath.Glob("testdata/quirks/" + q.Name + "-in*.before")
		if err != nil || len(before) == 0 && q.In != nil {
			t.Errorf("%s: no message comes in: %v", q.Name, err)
		}
		for _, f := range before {
			if got, want := string(trunk.unquirk([]byte(read(f)))), read(strings.TrimSuffix(f, "before")+"after"); got != want {
				t.Errorf("%s:\n%s\nwant\n%s", f, got, want)
			}
		}
		before, err = filepath.Glob("testdata/quirks/" + q.Name + "-out*.before")
		if err != nil || len(before) == 0 && q.Out != nil {
			t.Errorf("%s: no message goes out: %v", q.Name, err)
		}
		for _, f := range before {
			m, err := sipmsg.NewParser().ParseSIP([]byte(read(f)))
			if err != nil {
				t.Fatalf("%s: %v", f, err)
			}
			q.Out(m.(*sipmsg.Request))
			if got, want := m.String(), read(strings.TrimSuffix(f, "before")+"after"); got != want {
				t.Errorf("%s:\n%s\nwant\n%s", f, got, want)
			}
		}
	}
	plain := []byte(read("testdata/quirks/cisco-in.before"))
	if got := (Trunk{}).unquirk(plain); string(got) != string(plain) {
		t.Error("a trunk without quirks is changed")
	}
}
