// Package config reads a strict YAML file into the rooms' own structs. Every
// fault is reported at once, each with its line, its column and what to write
// instead. It does not know what the values mean.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// MaxSize bounds a configuration file, in bytes.
const MaxSize = 4 << 20

// maxDepth bounds nesting; aliases are not followed at all.
const maxDepth = 32

// Fault is one thing wrong with a file.
type Fault struct {
	File      string
	Line, Col int
	What      string
	Instead   string
}

func (f Fault) String() string {
	s := fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Col, f.What)
	if f.Instead != "" {
		s += "; " + f.Instead
	}
	return s
}

// Document is a file with the place of every value.
type Document struct {
	file   string
	text   []byte
	root   *yaml.Node
	faults []Fault
}

// Load reads a file into a pointer to a struct whose fields have yaml tags.
// Unknown keys, wrong types, duplicates and aliases are faults; ask Faults.
func Load(file string, into any) (*Document, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, err
	}
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%s: larger than %d bytes", file, MaxSize)
	}
	return Parse(file, b, into), nil
}

// Parse is Load on what was read already.
func Parse(file string, b []byte, into any) *Document {
	d := &Document{file: file, text: b, root: &yaml.Node{Kind: yaml.MappingNode, Line: 1, Column: 1}}
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&doc); err != nil {
		if !errors.Is(err, io.EOF) {
			d.syntax(err)
		}
		return d
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		d.fault(&doc, "the file holds a second document", "keep one")
	}
	d.root = doc.Content[0]
	d.decode(d.root, reflect.ValueOf(into).Elem(), 0)
	return d
}

// Text is what the file says of some of its top settings, with the comments above
// each.
func (d *Document) Text(keys ...string) string {
	if d.root.Style&yaml.FlowStyle != 0 {
		return string(d.text)
	}
	lines := strings.SplitAfter(string(d.text), "\n")
	// A setting begins with the comments right above it and ends where the next begins.
	begins := func(k *yaml.Node) int {
		at := k.Line - 1
		for at > 0 && strings.HasPrefix(lines[at-1], "#") {
			at--
		}
		return at
	}
	var out strings.Builder
	for i := 0; i+1 < len(d.root.Content); i += 2 {
		if !slices.Contains(keys, d.root.Content[i].Value) {
			continue
		}
		end := len(lines)
		if i+2 < len(d.root.Content) {
			end = begins(d.root.Content[i+2])
		}
		out.WriteString(strings.Join(lines[begins(d.root.Content[i]):end], ""))
	}
	return out.String()
}

// syntax reports what the YAML parser could not read.
func (d *Document) syntax(err error) {
	line := 1
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if _, e := fmt.Sscanf(text, "line %d:", &line); e == nil {
		_, text, _ = strings.Cut(text, ": ")
	}
	d.faults = append(d.faults, Fault{d.file, line, 1, "this is not YAML: " + text, "check the indentation and the quotes"})
}

// Faults are all faults so far, in the order of the file.
func (d *Document) Faults() []Fault {
	slices.SortStableFunc(d.faults, func(a, b Fault) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Col - b.Col
	})
	return d.faults
}

func (d *Document) fault(n *yaml.Node, what, instead string) {
	d.faults = append(d.faults, Fault{d.file, n.Line, n.Column, what, instead})
}

// Fault reports what a room found wrong with the value at a path of map keys
// and list indices; with what is not there, at the nearest that is. offset is
// where in the value the fault lies, in bytes.
func (d *Document) Fault(what, instead string, offset int, path ...any) {
	n := d.root
	for _, step := range path {
		next := child(n, step)
		if next == nil {
			offset = 0
			break
		}
		n = next
	}
	col := n.Column
	if n.Kind == yaml.ScalarNode && n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0 {
		col += offset
		if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 && offset > 0 {
			col++
		}
	}
	d.faults = append(d.faults, Fault{d.file, n.Line, col, what, instead})
}

func child(n *yaml.Node, step any) *yaml.Node {
	switch s := step.(type) {
	case string:
		if n.Kind == yaml.MappingNode {
			for i := 0; i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == s {
					return n.Content[i+1]
				}
			}
		}
	case int:
		if n.Kind == yaml.SequenceNode && s < len(n.Content) {
			return n.Content[s]
		}
	}
	return nil
}

var durationType = reflect.TypeFor[time.Duration]()

func (d *Document) decode(n *yaml.Node, v reflect.Value, depth int) {
	switch {
	case depth > maxDepth:
		d.fault(n, "nested too deep", "")
		return
	case n.Kind == yaml.AliasNode:
		d.fault(n, "aliases are not read", "write the value out")
		return
	case n.Tag == "!!null":
		return
	}
	if v.Type() == durationType {
		d.duration(n, v)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, depth)
	case reflect.Map:
		d.mapping(n, v, depth)
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			d.fault(n, "a list is wanted here", "write [A, B] or a line with - for each")
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		for i, c := range n.Content {
			d.decode(c, v.Index(i), depth+1)
		}
	default:
		d.scalar(n, v)
	}
}

func (d *Document) structure(n *yaml.Node, v reflect.Value, depth int) {
	if n.Kind != yaml.MappingNode {
		d.fault(n, "settings are wanted here", "write KEY: VALUE on lines of their own")
		return
	}
	fields := Fields(v.Type())
	var known []string
	for _, f := range fields {
		known = append(known, f.Key)
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		at := slices.Index(known, k.Value)
		switch {
		case at < 0:
			d.fault(k, fmt.Sprintf("there is no setting %q here", k.Value), "write "+nearest(k.Value, known))
		case seen[k.Value]:
			d.fault(k, fmt.Sprintf("%q is set twice", k.Value), "keep one")
		default:
			d.decode(n.Content[i+1], v.FieldByIndex(fields[at].Index), depth+1)
		}
		seen[k.Value] = true
	}
}

func (d *Document) mapping(n *yaml.Node, v reflect.Value, depth int) {
	if n.Kind != yaml.MappingNode {
		d.fault(n, "names with their settings are wanted here", "write NAME: and the settings below it")
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		key := reflect.ValueOf(k.Value)
		if v.MapIndex(key).IsValid() {
			d.fault(k, fmt.Sprintf("%q is set twice", k.Value), "keep one")
			continue
		}
		e := reflect.New(v.Type().Elem()).Elem()
		d.preset(e)
		d.decode(n.Content[i+1], e, depth+1)
		v.SetMapIndex(key, e)
	}
}

// preset gives a named entry what its default tags say: nobody else knows of it
// before it is read.
func (d *Document) preset(e reflect.Value) {
	if e.Kind() != reflect.Struct {
		return
	}
	for _, f := range Fields(e.Type()) {
		if f.Default != "" {
			d.decode(&yaml.Node{Kind: yaml.ScalarNode, Value: f.Default}, e.FieldByIndex(f.Index), 0)
		}
	}
}

func (d *Document) duration(n *yaml.Node, v reflect.Value) {
	t, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || t < 0 {
		d.fault(n, "a length of time is wanted here", "write a number with its unit, as in 30s, 5m or 2h")
		return
	}
	v.SetInt(int64(t))
}

func (d *Document) scalar(n *yaml.Node, v reflect.Value) {
	wants := map[reflect.Kind]string{reflect.String: "a text", reflect.Int: "a whole number", reflect.Bool: "true or false"}
	if n.Kind != yaml.ScalarNode || n.Decode(v.Addr().Interface()) != nil {
		d.fault(n, wants[v.Kind()]+" is wanted here", "")
	}
}

// Field is one setting of a struct.
type Field struct {
	Key, Doc, Default, Example string
	Index                      []int
	Type                       reflect.Type
}

// Fields lists a struct's settings; embedded structs count as their fields.
func Fields(t reflect.Type) []Field {
	var out []Field
	for i := range t.NumField() {
		f := t.Field(i)
		key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if f.Anonymous {
			for _, sub := range Fields(f.Type) {
				sub.Index = append([]int{i}, sub.Index...)
				out = append(out, sub)
			}
			continue
		}
		if key == "" || key == "-" {
			continue
		}
		out = append(out, Field{key, f.Tag.Get("doc"), f.Tag.Get("default"), f.Tag.Get("example"), []int{i}, f.Type})
	}
	return out
}

// nearest is the known key that is spelt most alike, or all of them.
func nearest(key string, known []string) string {
	best, distance := "", 3
	for _, k := range known {
		if d := edits(key, k); d < distance {
			best, distance = k, d
		}
	}
	if best != "" {
		return best
	}
	return "one of " + strings.Join(known, ", ")
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
