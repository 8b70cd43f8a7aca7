// Sipbridge lets a hospital's telephones and video rooms talk with patients who
// have nothing but a browser.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
	_ "time/tzdata" // for time_zone on machines that have none

	"github.com/urfave/cli/v2"

	"github.com/sipbridge/sipbridge/internal/config"
)

// The exit codes of every command.
const (
	exitNo    = 1 // the answer is no
	exitUsage = 2 // wrong usage
)

// endWithin is how long the polite end of all calls may take.
const endWithin = 10 * time.Second

func main() {
	app := &cli.App{
		Name:           "sipbridge",
		Usage:          "a gateway between SIP telephones and browsers",
		Commands:       []*cli.Command{demoCommand, serveCommand, checkCommand, describeCommand, routeCommand, inviteCommand, callsCommand, hangupCommand, trunksCommand, keyCommand, policyCommand, probeCommand, loadCommand},
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return cli.Exit(err.Error(), exitUsage) },
	}
	for _, c := range app.Commands {
		c.OnUsageError = app.OnUsageError
	}
	if err := app.Run(os.Args); err != nil {
		if err.Error() != "" {
			fmt.Fprintln(os.Stderr, "sipbridge:", err)
		}
		code := exitNo
		var coded cli.ExitCoder
		if errors.As(err, &coded) {
			code = coded.ExitCode()
		}
		os.Exit(code)
	}
}

var configFlag = &cli.StringFlag{Name: "config", Usage: "the configuration `FILE`"}

var serveCommand = &cli.Command{
	Name: "serve", Usage: "run the gateway",
	Flags: []cli.Flag{configFlag, &cli.StringFlag{Name: "log", Value: "info", Usage: "debug, info, warn or error; debug shows patient data"}},
	Action: func(c *cli.Context) error {
		var level slog.Level
		if err := level.UnmarshalText([]byte(c.String("log"))); err != nil {
			return cli.Exit("--log: "+err.Error(), exitUsage)
		}
		if c.String("config") == "" {
			return cli.Exit("serve wants --config FILE", exitUsage)
		}
		cfg, p, faults, err := loadFile(c.String("config"))
		if err != nil {
			return err
		}
		if len(faults) > 0 {
			return printFaults(faults)
		}
		log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
		signal.Ignore(syscall.SIGHUP) // until there is something to read again
		if cfg.Role == rolePortal {
			o, err := startOutpost(cfg, log)
			if err != nil {
				return err
			}
			return untilSignal(func() {}, o.stop, 0)
		}
		g, err := start(cfg, p, log)
		if err != nil {
			return err
		}
		return untilSignal(func() {}, g.stop, cfg.Drain)
	},
}

// untilSignal waits for SIGTERM or SIGINT, then stops: the first one drains,
// a second ends at once.
func untilSignal(first func(), stop func(context.Context, time.Duration) error, drain time.Duration) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	<-signals
	first()
	ctx, cancel := context.WithTimeout(context.Background(), drain+endWithin)
	defer cancel()
	draining, hurry := context.WithCancel(ctx)
	defer hurry()
	done := make(chan error, 1)
	go func() { done <- stop(draining, drain) }() // ends within endWithin of a hurry
	select {
	case err := <-done:
		return err
	case <-signals:
		return cli.Exit("ended at once", exitNo)
	}
}

func printFaults(faults []config.Fault) error {
	for _, f := range faults {
		fmt.Fprintln(os.Stderr, f)
	}
	return cli.Exit(fmt.Sprintf("%d fault(s)", len(faults)), exitNo)
}

var checkCommand = &cli.Command{
	Name: "check", Usage: "name every fault of a configuration", Flags: []cli.Flag{configFlag},
	Action: func(c *cli.Context) error {
		if c.String("config") == "" {
			return cli.Exit("check wants --config FILE", exitUsage)
		}
		_, p, faults, err := loadFile(c.String("config"))
		if err != nil {
			return err
		}
		if len(faults) > 0 {
			return printFaults(faults)
		}
		for _, w := range p.Warnings() {
			fmt.Printf("%s: warning: %s\n", c.String("config"), w)
		}
		fmt.Println(c.String("config") + ": no fault")
		return nil
	},
}

var describeCommand = &cli.Command{
	Name: "describe", Usage: "print the annotated reference configuration",
	Action: func(*cli.Context) error {
		fmt.Print(reference())
		return nil
	},
}

// reference is configs/reference.yaml.
func reference() string {
	return "# Every setting of sipbridge, as sipbridge describe prints it. Where no example\n# is wanted, the value shown is the default.\n\n" +
		config.Describe(Configuration{})
}
