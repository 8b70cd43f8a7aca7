package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sipbridge/sipbridge/internal/config"
)

// looksEvery is how often a file is looked at for a change.
const looksEvery = 2 * time.Second

// follow calls reload at every SIGHUP and, if the file says so, whenever the file
// changes, until the face closes.
func (f *face) follow(reload func(by string)) {
	if f.cfg.file == "" {
		return
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	ctx, enough := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		defer signal.Stop(hup)
		f.look(ctx, hup, reload)
	})
	f.opened(func() { enough(); wg.Wait() })
}

func (f *face) look(ctx context.Context, hup <-chan os.Signal, reload func(by string)) {
	var look <-chan time.Time
	if f.cfg.ReloadOnChange {
		t := time.NewTicker(looksEvery)
		defer t.Stop()
		look = t.C
	}
	seen := stamp(f.cfg.file)
	for {
		by := "SIGHUP"
		select {
		case <-ctx.Done():
			return
		case <-hup:
		case <-look:
			if now := stamp(f.cfg.file); now == seen {
				continue
			}
			by = "the file changed"
		}
		seen = stamp(f.cfg.file)
		reload(by)
	}
}

// stamp tells one state of a file from another.
func stamp(file string) string {
	st, err := os.Stat(file)
	if err != nil {
		return ""
	}
	return fmt.Sprint(st.ModTime().UnixNano(), st.Size())
}

// again reads the configuration anew; a fault of it is an error.
func again(file string) (Configuration, error) {
	cfg, _, faults, err := loadFile(file)
	if err == nil && len(faults) > 0 {
		err = refused(faults)
	}
	return cfg, err
}

// refused is what is said of a file with faults.
func refused(faults []config.Fault) error {
	var all []string
	for _, f := range faults {
		all = append(all, f.String())
	}
	return fmt.Errorf("%d fault(s): %s", len(faults), strings.Join(all, " | "))
}
