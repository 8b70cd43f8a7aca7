package config

import (
	"fmt"
	"reflect"
	"strings"
)

// Describe renders the annotated reference of a configuration struct from its
// doc, default and example tags.
func Describe(of any) string {
	var b strings.Builder
	describe(&b, reflect.TypeOf(of), 0)
	return b.String()
}

func describe(b *strings.Builder, t reflect.Type, depth int) {
	indent := strings.Repeat("  ", depth)
	for i, f := range Fields(t) {
		if depth == 0 && i > 0 {
			b.WriteByte('\n')
		}
		for _, line := range wrap(f.Doc, 92-len(indent)) {
			fmt.Fprintf(b, "%s# %s\n", indent, line)
		}
		ft := f.Type
		switch {
		case ft.Kind() == reflect.Struct:
			fmt.Fprintf(b, "%s%s:\n", indent, f.Key)
			describe(b, ft, depth+1)
		case ft.Kind() == reflect.Map && ft.Elem().Kind() == reflect.Struct:
			if f.Example == "" { // an entry would not stand here: it is only shown
				var entry strings.Builder
				describe(&entry, ft.Elem(), depth+2)
				fmt.Fprintf(b, "%s%s: {}\n%s  # NAME:\n", indent, f.Key, indent)
				for line := range strings.Lines(entry.String()) {
					fmt.Fprintf(b, "%s  #%s", indent, strings.TrimPrefix(line, indent+"  "))
				}
				continue
			}
			fmt.Fprintf(b, "%s%s:\n%s  %s:\n", indent, f.Key, indent, f.Example)
			describe(b, ft.Elem(), depth+2)
		case ft.Kind() == reflect.Slice && ft.Elem().Kind() == reflect.Struct:
			fmt.Fprintf(b, "%s%s:\n", indent, f.Key)
			var item strings.Builder
			describe(&item, ft.Elem(), depth+2)
			text := item.String()
			// The first setting carries the dash of its list entry; its comment goes above.
			at := strings.Index(text, strings.Repeat("  ", depth+2)+Fields(ft.Elem())[0].Key+":")
			fmt.Fprint(b, text[:at], indent, "  - ", strings.TrimLeft(text[at:], " "))
		default:
			value := f.Example
			if value == "" {
				value = f.Default
			}
			if value == "" {
				value = zero(ft)
			}
			fmt.Fprintf(b, "%s%s: %s\n", indent, f.Key, quote(value, ft))
		}
	}
}

func zero(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice:
		return "[]"
	case reflect.Map:
		return "{}"
	case reflect.Bool:
		return "false"
	case reflect.Int, reflect.Int64:
		return "0"
	}
	return `""`
}

// quote writes a text so that YAML reads it back as that text.
func quote(s string, t reflect.Type) string {
	if t.Kind() == reflect.String && s != `""` && strings.ContainsAny(s, `#"{}[]&*!|>%@`) {
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	return s
}

func wrap(s string, width int) []string {
	var out []string
	line := ""
	for w := range strings.FieldsSeq(s) {
		if line != "" && len(line)+1+len(w) > width {
			out = append(out, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += w
	}
	if line != "" {
		out = append(out, line)
	}
	return out
}
