package policy

import (
	"fmt"
	"iter"
	"math"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/parser"
)

// costLimit bounds one evaluation (CEL cost units): a thousand times what a
// realistic condition takes.
const costLimit = 100_000

// condition compiles a rule's condition, and looks what it is made of.
func (c *compiler) condition(i int, r *rule) {
	if r.When == "" {
		return
	}
	tree, iss := c.env.Compile(r.When)
	switch {
	case iss.Err() != nil:
		e := iss.Errors()[0]
		what := e.Message
		if at := strings.Index(what, " (in container"); at > 0 {
			what = what[:at]
		}
		c.faults = append(c.faults, &Fault{Path: []any{"routes", i, "when"}, Offset: e.Location.Column(), What: what, Instead: "the facts are " + Facts})
		return
	case !tree.OutputType().IsExactType(cel.BoolType):
		c.fault("the condition is not true or false but "+tree.OutputType().String(), `compare it, as in call.source == "pbx"`, "routes", i, "when")
		return
	}
	program, err := c.env.Program(tree, cel.CostLimit(costLimit), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		c.fault(err.Error(), "simplify the condition", "routes", i, "when")
		return
	}
	r.program, r.ast, r.env = program, tree, c.env
	c.p.e164 = c.p.e164 || strings.Contains(r.When, ".e164")
	r.parts = partsOf(tree.NativeRep())
	for _, p := range r.parts {
		r.hints.learn(p.expr, c.p)
	}
}

// part is one of the conditions that must all hold.
type part struct {
	expr ast.Expr
	text string
}

func partsOf(tree *ast.AST) []part {
	var out []part
	var walk func(ast.Expr)
	walk = func(e ast.Expr) {
		if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.LogicalAnd {
			for _, a := range e.AsCall().Args() {
				walk(a)
			}
			return
		}
		text, err := parser.Unparse(e, tree.SourceInfo())
		if err != nil {
			text = fmt.Sprintf("expression %d", e.ID())
		}
		out = append(out, part{e, text})
	}
	walk(tree.Expr())
	return out
}

// hints are what a call must have for a condition to hold, as far as its parts say so
// plainly; nil: that does not matter.
type hints struct {
	sources, to, from []string
	prefix            string // of the dialled number
}

// allow reports whether a condition may hold.
func (h *hints) allow(c *Call) bool {
	return (h.sources == nil || slices.Contains(h.sources, c.Source)) &&
		strings.HasPrefix(c.To.User, h.prefix) &&
		(h.to == nil || len(h.to) > few || slices.Contains(h.to, c.To.User)) &&
		(h.from == nil || len(h.from) > few || slices.Contains(h.from, c.From.User))
}

// few is how many values are compared one by one.
const few = 8

// learn takes what one part says.
func (h *hints) learn(e ast.Expr, p *Policy) {
	if e.Kind() != ast.CallKind {
		return
	}
	call := e.AsCall()
	args := call.Args()
	switch call.FunctionName() {
	case operators.Equals:
		for i := range args {
			if v, ok := literal(args[1-i]); ok {
				h.note(path(args[i]), []string{v})
			}
		}
	case operators.In:
		if v, ok := p.listed(args[1]); ok {
			h.note(path(args[0]), v)
		}
	case "startsWith":
		if v, ok := literal(args[0]); ok && call.IsMemberFunction() && path(call.Target()) == "call.to.user" && len(v) > len(h.prefix) {
			h.prefix = v
		}
	case "matches":
		if v, ok := literal(args[0]); ok && call.IsMemberFunction() && path(call.Target()) == "call.to.user" && strings.HasPrefix(v, "^") {
			if re, err := regexp.Compile(v); err == nil {
				if prefix, _ := re.LiteralPrefix(); len(prefix) > len(h.prefix) {
					h.prefix = prefix
				}
			}
		}
	}
}

func (h *hints) note(fact string, values []string) {
	switch fact {
	case "call.source", "call.trunk":
		if !slices.Contains(values, "") { // of a room, and of a browser, no trunk is named
			h.sources = values
		}
	case "call.to.user":
		h.to = values
	case "call.from.user":
		h.from = values
	}
}

// path is a fact's name; "": it is none.
func path(e ast.Expr) string {
	switch e.Kind() {
	case ast.IdentKind:
		return e.AsIdent()
	case ast.SelectKind:
		if s := e.AsSelect(); !s.IsTestOnly() {
			if operand := path(s.Operand()); operand != "" {
				return operand + "." + s.FieldName()
			}
		}
	}
	return ""
}

func literal(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().(types.String)
	return string(s), ok
}

// listed are the texts of a list or a set.
func (p *Policy) listed(e ast.Expr) ([]string, bool) {
	if e.Kind() == ast.ListKind {
		out := []string{}
		for _, x := range e.AsList().Elements() {
			v, ok := literal(x)
			if !ok {
				return nil, false
			}
			out = append(out, v)
		}
		return out, true
	}
	v, ok := p.values[path(e)]
	if !ok {
		return nil, false
	}
	out := []string{}
	if m, ok := v.Value().(map[string]bool); ok {
		for s := range m {
			out = append(out, s)
		}
	}
	return out, true
}

// index finds the routes that may hold for a call without looking at the others.
// Each route stands in one table, under what is most telling of it.
type index struct {
	to, from, source map[string][]int
	prefix           map[string][]int
	lengths          []int // of the prefixes
	rest             []int
}

func makeIndex(rules []rule) index {
	x := index{to: map[string][]int{}, from: map[string][]int{}, source: map[string][]int{}, prefix: map[string][]int{}}
	put := func(table map[string][]int, keys []string, i int) {
		for _, k := range keys {
			if l := table[k]; len(l) == 0 || l[len(l)-1] != i {
				table[k] = append(l, i)
			}
		}
	}
	for i := range rules {
		switch h := &rules[i].hints; {
		case h.to != nil:
			put(x.to, h.to, i)
		case h.from != nil:
			put(x.from, h.from, i)
		case h.prefix != "":
			put(x.prefix, []string{h.prefix}, i)
			if !slices.Contains(x.lengths, len(h.prefix)) {
				x.lengths = append(x.lengths, len(h.prefix))
			}
		case h.sources != nil:
			put(x.source, h.sources, i)
		default:
			x.rest = append(x.rest, i)
		}
	}
	return x
}

// mostLists bounds the tables' answers for one call; a number has no more prefixes
// than that.
const mostLists = 40

// find yields the routes that may hold, in their order.
func (x *index) find(c *Call) iter.Seq[int] {
	return func(yield func(int) bool) {
		var room [mostLists][]int
		lists := append(room[:0], x.rest, x.source[c.Source], x.from[c.From.User], x.to[c.To.User])
		for _, n := range x.lengths {
			if n <= len(c.To.User) {
				lists = append(lists, x.prefix[c.To.User[:n]])
			}
		}
		for {
			next, at := math.MaxInt, -1
			for k, l := range lists {
				if len(l) > 0 && l[0] < next {
					next, at = l[0], k
				}
			}
			if at < 0 {
				return
			}
			lists[at] = lists[at][1:]
			if !yield(next) {
				return
			}
		}
	}
}
