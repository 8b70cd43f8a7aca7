package policy

import (
	"fmt"
	"regexp"
	"strings"
)

// Rewrite is how a dialled number is written for a trunk. The steps are taken in
// the order of the fields.
type Rewrite struct {
	E164   bool   `yaml:"e164" doc:"As the whole world dials it, +351213000123; one that is no such number stays as it is." default:"false"`
	Match  string `yaml:"match" doc:"A regular expression (RE2). Where the number matches, it becomes what with says."`
	With   string `yaml:"with" doc:"What match is replaced with; $1 is its first group."`
	Strip  int    `yaml:"strip" doc:"So many digits are taken off the front." default:"0"`
	Prefix string `yaml:"prefix" doc:"Digits put in front."`
}

type rewriter struct {
	Rewrite
	country string
	match   *regexp.Regexp // nil: none
}

func (c *compiler) rewriter(r Rewrite, path ...any) rewriter {
	out := rewriter{Rewrite: r, country: c.Country}
	if r.Match != "" {
		var err error
		if out.match, err = regexp.Compile(r.Match); err != nil {
			c.fault(fmt.Sprintf("%q is no regular expression", r.Match), `write one, as in "^9(.*)$"`, append(path, "match")...)
		}
	} else if r.With != "" {
		c.fault("there is nothing to replace", "write match, too", append(path, "with")...)
	}
	if r.Strip < 0 || r.Strip > 30 {
		c.fault(fmt.Sprintf("%d digits cannot be taken off", r.Strip), "write a number from 0 to 30", append(path, "strip")...)
	}
	if strings.Trim(r.Prefix, "0123456789+*#") != "" {
		c.fault(fmt.Sprintf("%q is nothing that is dialled", r.Prefix), "write digits, +, * and #", append(path, "prefix")...)
	}
	if r.E164 && c.Country == "" {
		c.fault("which country's numbers?", "write country: PT at the top of the file", append(path, "e164")...)
	}
	return out
}

func (w rewriter) rewrite(number string) string {
	if w.E164 {
		if n := e164(number, w.country); n != "" {
			number = n
		}
	}
	if w.match != nil {
		if m := w.match.FindStringSubmatchIndex(number); m != nil {
			number = number[:m[0]] + string(w.match.ExpandString(nil, w.With, number, m)) + number[m[1]:]
		}
	}
	return w.Prefix + number[min(w.Strip, len(number)):]
}
