package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sipbridge/sipbridge/internal/admin"
	"github.com/sipbridge/sipbridge/internal/config"
	"github.com/sipbridge/sipbridge/internal/history"
	"github.com/sipbridge/sipbridge/internal/policy"
)

var routeCommand = &cli.Command{
	Name: "route", Usage: "say what would happen to a call, and why",
	Flags: []cli.Flag{configFlag, jsonFlag, &cli.StringFlag{Name: "from", Usage: "the caller's `URI`"}, &cli.StringFlag{Name: "to", Usage: "the called `URI`"},
		&cli.StringFlag{Name: "source", Value: "browser", Usage: "a trunk's `NAME`, browser or room"},
		&cli.StringFlag{Name: "at", Usage: "another `TIME` than now: 2026-12-25 18:05"},
		&cli.StringSliceFlag{Name: "label", Usage: "of the invitation, `NAME=VALUE`"},
		&cli.StringSliceFlag{Name: "header", Usage: "of the INVITE, `NAME=VALUE`"},
		&cli.StringSliceFlag{Name: "codec", Usage: "that the caller offers: `NAME`"}, &cli.BoolFlag{Name: "encrypted", Usage: "it offers keys"}},
	Subcommands: []*cli.Command{routeTestCommand},
	Action: func(c *cli.Context) error {
		if c.String("config") == "" || c.String("to") == "" {
			return cli.Exit("route wants --config FILE and --to URI", exitUsage)
		}
		p, err := loadPolicy(c.String("config"))
		if err != nil {
			return err
		}
		q := policy.Ask(c.String("source"), c.String("from"), c.String("to"))
		if q.At, err = p.When(c.String("at"), time.Now()); err != nil {
			return cli.Exit("--at: "+err.Error(), exitUsage)
		}
		for into, flag := range map[*map[string]string]string{&q.Call.Labels: "label", &q.Call.Headers: "header"} {
			if *into, err = pairs(c.StringSlice(flag)); err != nil {
				return cli.Exit("--"+flag+": "+err.Error(), exitUsage)
			}
		}
		q.Call.Codecs, q.Call.Encrypted = c.StringSlice("codec"), c.Bool("encrypted")
		e := p.Explain(q)
		if c.Bool("json") {
			return json.NewEncoder(os.Stdout).Encode(e)
		}
		return tell(os.Stdout, e)
	},
}

// loadPolicy is the policy of a file without faults.
func loadPolicy(file string) (*policy.Policy, error) {
	_, p, faults, err := loadFile(file)
	if err != nil {
		return nil, err
	}
	if len(faults) > 0 {
		return nil, printFaults(faults)
	}
	return p, nil
}

// pairs reads NAME=VALUE; names are small letters.
func pairs(all []string) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range all {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%q is not NAME=VALUE", s)
		}
		out[strings.ToLower(name)] = value
	}
	return out, nil
}

// paint puts colours on a word, where a person looks.
func paint(w io.Writer, code, s string) string {
	if f, ok := w.(*os.File); ok && os.Getenv("NO_COLOR") == "" {
		if st, err := f.Stat(); err == nil && st.Mode()&os.ModeCharDevice != 0 {
			return "\x1b[" + code + "m" + s + "\x1b[0m"
		}
	}
	return s
}

const green, red, grey = "32", "31", "90"

// tell prints an explanation for people.
func tell(out io.Writer, e policy.Explanation) error {
	fmt.Fprintln(out, paint(out, grey, e.At))
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for _, s := range e.Trace {
		mark, why := paint(out, grey, "-"), paint(out, grey, s.Why)
		if s.Matched {
			mark, why = paint(out, green, "✓"), s.Why
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", mark, s.Route, why)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, f := range e.Errors {
		fmt.Fprintln(out, paint(out, red, "could not be evaluated, so does not hold: "+f))
	}
	if len(e.Names) == 0 {
		fmt.Fprintf(out, "\n%s: %d %s\n", paint(out, red, string(e.Kind)), e.Status, e.Reason)
		return nil
	}
	if e.Kind == policy.IsUrgent {
		fmt.Fprintf(out, "\n%s: %s\n", paint(out, green, "emergency"), strings.Join(e.Names, ", then "))
		return nil
	}
	fmt.Fprintf(out, "\n%s %q: %s\n", paint(out, green, "route"), e.Route, strings.Join(e.Names, ", then "))
	for _, t := range [][2]string{{"shown as", e.Caller}, {"rings for", e.Ring}, {"at most", e.Long}, {"codecs", strings.Join(e.Codecs, ", ")}, {"bandwidth", e.Width}, {"video", e.Video}, {"recording", e.Record}, {"limit", e.Room}} {
		if t[1] != "" {
			fmt.Fprintf(out, "  %-10s %s\n", t[0], t[1])
		}
	}
	return nil
}

var routeTestCommand = &cli.Command{
	Name: "test", Usage: "hold a policy against what is expected of it", ArgsUsage: "EXPECTATIONS.yaml...", Flags: []cli.Flag{configFlag},
	Action: func(c *cli.Context) error {
		if c.String("config") == "" || c.NArg() == 0 {
			return cli.Exit("route test wants --config FILE and one or more files of expectations", exitUsage)
		}
		p, err := loadPolicy(c.String("config"))
		if err != nil {
			return err
		}
		tried, wrong, taken := 0, 0, map[string]bool{}
		for _, file := range c.Args().Slice() {
			var x policy.Expectations
			doc, err := config.Load(file, &x)
			if err != nil {
				return err
			}
			if faults := doc.Faults(); len(faults) > 0 {
				return printFaults(faults)
			}
			for n, one := range x.Expect {
				tried++
				e, differences, err := one.Meet(p)
				if err != nil {
					return fmt.Errorf("%s: expectation %d: %w", file, n+1, err)
				}
				taken[e.Route] = true
				if len(differences) > 0 {
					wrong++
					differs(os.Stdout, file, n, one, e, differences)
				}
			}
		}
		fmt.Printf("%d of %d expectations are met\n", tried-wrong, tried)
		if missed := p.Uncovered(taken); len(missed) > 0 {
			fmt.Printf("no expectation reaches: %s\n", strings.Join(missed, "; "))
		} else {
			fmt.Println("every route is reached")
		}
		if wrong > 0 {
			return cli.Exit("", exitNo)
		}
		return nil
	},
}

// differs shows an expectation that is not met.
func differs(out io.Writer, file string, n int, x policy.Expectation, e policy.Explanation, all []policy.Difference) {
	fmt.Fprintf(out, "%s %s, expectation %d: %s\n  a call from %s (%s) to %s, %s\n", paint(out, red, "✗"), file, n+1, x.Name, x.From, x.Source, x.To, e.At)
	for _, d := range all {
		fmt.Fprintf(out, "  %-9s %s\n  %-9s %s\n", d.What, paint(out, red, "- "+d.Expected), "", paint(out, green, "+ "+d.Got))
	}
	for _, s := range e.Trace {
		if s.Matched || s.Route == x.Route {
			fmt.Fprintf(out, "  %q: %s\n", s.Route, s.Why)
		}
	}
	fmt.Fprintln(out)
}

var policyCommand = &cli.Command{
	Name: "policy", Usage: "versions of a running gateway's policy",
	Subcommands: []*cli.Command{
		{Name: "history", Usage: "list the versions that are kept", Flags: adminFlags, Action: policyHistory},
		{Name: "diff", Usage: "show what differs between two versions", ArgsUsage: "A B", Flags: adminFlags, Action: policyDiff},
		{Name: "rollback", Usage: "take an earlier version again; the file stays as it is", ArgsUsage: "N", Flags: adminFlags, Action: policyRollback},
		{Name: "reload", Usage: "read the file again", Flags: adminFlags, Action: func(c *cli.Context) error {
			var v admin.PolicyVersions
			if err := ask(c, "POST", "/api/v1/policy/reload", nil, &v); err != nil {
				return err
			}
			return policyTold(c, v)
		}},
	},
}

// policyTold says which version is in force.
func policyTold(c *cli.Context, v admin.PolicyVersions) error {
	if c.Bool("json") {
		return json.NewEncoder(os.Stdout).Encode(v)
	}
	fmt.Printf("version %d is in force\n", v.Current)
	for _, w := range v.Warnings {
		fmt.Println("warning:", w)
	}
	return nil
}

func policyHistory(c *cli.Context) error {
	var v admin.PolicyVersions
	if err := ask(c, "GET", "/api/v1/policy", nil, &v); err != nil {
		return err
	}
	if c.Bool("json") {
		return json.NewEncoder(os.Stdout).Encode(v)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "VERSION\tSINCE\tBY\t")
	for _, one := range v.Versions {
		mark := ""
		if one.Number == v.Current {
			mark = "in force"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", one.Number, one.At.Local().Format("2006-01-02 15:04:05"), one.By, mark)
	}
	return w.Flush()
}

func policyDiff(c *cli.Context) error {
	if c.NArg() != 2 {
		return cli.Exit("diff wants two versions; flags stand before them", exitUsage)
	}
	var texts [2]history.Version
	for i := range texts {
		n, err := strconv.Atoi(c.Args().Get(i))
		if err != nil {
			return cli.Exit(fmt.Sprintf("%q is no version", c.Args().Get(i)), exitUsage)
		}
		if err := ask(c, "GET", fmt.Sprintf("/api/v1/policy/%d", n), nil, &texts[i]); err != nil {
			return err
		}
	}
	diff := history.Diff(texts[0].Text, texts[1].Text)
	if c.Bool("json") {
		return json.NewEncoder(os.Stdout).Encode(map[string]string{"diff": diff})
	}
	for line := range strings.Lines(diff) {
		switch line[0] {
		case '-':
			line = paint(os.Stdout, red, strings.TrimSuffix(line, "\n")) + "\n"
		case '+':
			line = paint(os.Stdout, green, strings.TrimSuffix(line, "\n")) + "\n"
		}
		fmt.Print(line)
	}
	return nil
}

func policyRollback(c *cli.Context) error {
	n, err := strconv.Atoi(c.Args().First())
	if err != nil || c.NArg() != 1 {
		return cli.Exit("rollback wants one version; flags stand before it", exitUsage)
	}
	var v admin.PolicyVersions
	if err := ask(c, "POST", "/api/v1/policy/rollback", map[string]int{"version": n}, &v); err != nil {
		return err
	}
	if !c.Bool("json") {
		fmt.Println("the file still says otherwise: the next reload or start takes it again")
	}
	return policyTold(c, v)
}
