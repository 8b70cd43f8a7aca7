package history

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/sipbridge/sipbridge/internal/bus"
)

func TestTheLastTenVersionsAreKept(t *testing.T) {
	b, err := bus.Open(t.TempDir(), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	book := Book{Store: b.Policies()}
	now := time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)
	for n := range Kept + 3 {
		v, err := book.Add(fmt.Sprintf("text %d\n", n), "Ana", now)
		if err != nil || v.Number != n+1 {
			t.Fatalf("%+v, %v", v, err)
		}
	}
	if v, err := book.Add(fmt.Sprintf("text %d\n", Kept+2), "Rui", now); err != nil || v.Number != Kept+3 || v.By != "Ana" {
		t.Errorf("the same text again: %+v, %v", v, err)
	}
	all, err := book.Versions()
	if err != nil || len(all) != Kept || all[0].Number != 4 || all[Kept-1].Number != Kept+3 {
		t.Errorf("%+v, %v", all, err)
	}
	if v, err := book.Version(5); err != nil || v.Text != "text 4\n" || !v.At.Equal(now) {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := book.Version(3); !errors.Is(err, ErrNone) {
		t.Errorf("a version that was forgotten: %v", err)
	}
}

func TestDiff(t *testing.T) {
	for _, c := range []struct{ name, a, b, want string }{
		{"nothing", "a\nb\n", "a\nb\n", ""},
		{"a line changed, with what is around it", "1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nfive\n6\n7\n8\n9\n", "...\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n"},
		{"lines at both ends", "a\nb\n", "b\nc\n", "-a\n b\n+c\n"},
		{"all new", "", "a\n", "+a\n"},
	} {
		if got := Diff(c.a, c.b); got != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}
