package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Class is a kind of destination that costs money, or could be abused: whoever
// breaks into a telephone calls there.
type Class struct {
	Numbers  string   `yaml:"numbers" doc:"Which numbers are of the class: a regular expression (RE2) over the number as it is sent to the trunk." example:"^(00|\\+)"`
	From     []string `yaml:"from" doc:"Who may call there: trunks by name, browser, room. Empty: nobody." example:"[pbx]"`
	Transfer bool     `yaml:"transfer" doc:"Calls may be transferred there (REFER)." default:"false"`
	MaxCalls int      `yaml:"max_calls" doc:"Calls there at once, all callers together. 0: no limit." default:"0"`
	PerHour  int      `yaml:"per_hour" doc:"Calls begun there in an hour. 0: no limit." default:"0"`
}

// Limit is what holds for a number of a class.
type Limit struct {
	Class
	Name    string
	numbers *regexp.Regexp
}

// Allows reports whether a source may call there; transfer, that it is by REFER.
func (l Limit) Allows(source string, transfer bool) bool {
	return slices.Contains(l.From, source) && (!transfer || l.Transfer)
}

// compileClasses reads the classes; what is wrong is told by class and field.
func compileClasses(classes map[string]Class, trunks []string, fault func(what, instead string, path ...any)) []Limit {
	var out []Limit
	for name, c := range classes {
		re, err := regexp.Compile(c.Numbers)
		if err != nil || c.Numbers == "" {
			fault(fmt.Sprintf("%q is no pattern of numbers", c.Numbers), `write a regular expression, as in "^00"`, "classes", name, "numbers")
			continue
		}
		for i, who := range c.From {
			if who != "browser" && who != "room" && !slices.Contains(trunks, who) {
				fault(fmt.Sprintf("nobody who calls is named %q", who), "write a trunk's name, browser or room", "classes", name, "from", i)
			}
		}
		if c.MaxCalls < 0 || c.PerHour < 0 {
			fault("a limit below zero", "write how many calls may be, or 0 for no limit", "classes", name)
		}
		out = append(out, Limit{Class: c, Name: name, numbers: re})
	}
	slices.SortFunc(out, func(a, b Limit) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Limits are what holds for a number that a trunk is to call.
func (p *Policy) Limits(number string) []Limit {
	var out []Limit
	for _, l := range p.classes {
		if l.numbers.MatchString(number) {
			out = append(out, l)
		}
	}
	return out
}
