package policy

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Set is a list by name.
type Set struct {
	Of     []string `yaml:"of" doc:"What is in it." example:"[\"2101\", \"2102\"]"`
	File   string   `yaml:"file" doc:"A CSV file with more, beside the configuration if it is named without a folder."`
	Column string   `yaml:"column" doc:"Which column of the file, by the name in its first line. Empty: the first one, of a file whose first line is an entry as any other."`
}

// Calendar is a list of days by name.
type Calendar struct {
	Of   []string `yaml:"of" doc:"The days: 2026-12-25, or 12-25 for every year." example:"[12-25, 01-01]"`
	File string   `yaml:"file" doc:"A CSV file with more, one in the first column of each line."`
}

// mostRows bounds a file of a set.
const mostRows = 200_000

// members are those of a set.
func (c *compiler) members(s Set, path ...any) []string {
	out := slices.Clone(s.Of)
	if s.File == "" {
		return out
	}
	more, err := c.column(s.File, s.Column)
	if err != nil {
		c.fault(err.Error(), "mend the file", append(path, "file")...)
	}
	return append(out, more...)
}

// days are those of a calendar.
func (c *compiler) days(k Calendar, name string) []string {
	for i, d := range k.Of {
		if !day(d) {
			c.fault(fmt.Sprintf("%q is no day", d), "write 2026-12-25, or 12-25 for every year", "calendars", name, "of", i)
		}
	}
	out := slices.Clone(k.Of)
	if k.File == "" {
		return out
	}
	more, err := c.column(k.File, "")
	for i, d := range more {
		if err == nil && !day(d) {
			err = fmt.Errorf("%s:%d: %q is no day", k.File, i+1, d)
		}
	}
	if err != nil {
		c.fault(err.Error(), "mend the file", "calendars", name, "file")
	}
	return append(out, more...)
}

func day(s string) bool {
	if len(s) == len("12-25") {
		s = "2024-" + s // a leap year
	}
	_, err := time.Parse("2006-01-02", s)
	return err == nil
}

// column reads one column of a CSV file (RFC 4180).
func (c *compiler) column(file, name string) ([]string, error) {
	if c.known.Read == nil {
		return nil, errors.New("files are not read here")
	}
	b, err := c.known.Read(file)
	if err != nil {
		return nil, err
	}
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))))
	r.TrimLeadingSpace = true
	at := 0
	var out []string
	for n := 0; ; n++ {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		var wrong *csv.ParseError
		switch {
		case errors.As(err, &wrong):
			return nil, fmt.Errorf("%s:%d: %w", file, wrong.Line, wrong.Err)
		case err != nil:
			return nil, fmt.Errorf("%s: %w", file, err)
		case n > mostRows:
			return nil, fmt.Errorf("%s: more than %d lines", file, mostRows)
		case n == 0 && name != "":
			if at = slices.Index(row, name); at < 0 {
				return nil, fmt.Errorf("%s:1: no column is named %q, only %s", file, name, strings.Join(row, ", "))
			}
			continue
		}
		line, _ := r.FieldPos(at)
		v := strings.TrimSpace(row[at])
		if v == "" {
			return nil, fmt.Errorf("%s:%d: the entry is empty", file, line)
		}
		out = append(out, v)
	}
}
