package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sipbridge/sipbridge/internal/bus"
	"github.com/sipbridge/sipbridge/internal/config"
	"github.com/sipbridge/sipbridge/internal/policy"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestReferenceIsWhatDescribePrints(t *testing.T) {
	const file = "../../configs/reference.yaml"
	if *update {
		if err := os.WriteFile(file, []byte(reference()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != reference() {
		t.Errorf("%s is not what sipbridge describe prints; run go test ./cmd/sipbridge -update", file)
	}
	if _, _, faults, err := loadFile(file); err != nil || len(faults) > 0 {
		t.Errorf("the reference has faults: %v %v", err, faults)
	}
}

// examples are the configurations that an administrator may begin with.
func examples(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("../../configs/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range all {
		if !strings.HasSuffix(f, ".expect.yaml") && !strings.HasSuffix(f, "reference.yaml") {
			out = append(out, f)
		}
	}
	if len(out) < 5 {
		t.Fatalf("only %v", out)
	}
	return out
}

func TestExamplesAreAsExpected(t *testing.T) {
	files := secrets(t)
	for _, f := range examples(t) {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		cfg := defaults()
		cfg.file = f
		doc := config.Parse(f, []byte(strings.ReplaceAll(string(b), "/etc/sipbridge", files)), &cfg)
		p := check(&cfg, doc)
		if faults := doc.Faults(); len(faults) > 0 {
			t.Errorf("%v", faults)
			continue
		}
		if w := p.Warnings(); len(w) > 0 {
			t.Errorf("%s: %v", f, w)
		}
		if cfg.Role == rolePortal {
			continue // it decides nothing
		}
		var x policy.Expectations
		expected := strings.TrimSuffix(f, ".yaml") + ".expect.yaml"
		told, err := config.Load(expected, &x)
		if err != nil || len(told.Faults()) > 0 {
			t.Errorf("%v %v", err, told)
			continue
		}
		taken := map[string]bool{}
		for _, one := range x.Expect {
			e, differences, err := one.Meet(p)
			if err != nil || len(differences) > 0 {
				t.Errorf("%s: %s: %v %v", expected, one.Name, differences, err)
			}
			taken[e.Route] = true
		}
		if missed := p.Uncovered(taken); len(missed) > 0 {
			t.Errorf("%s: nothing is expected of %q", expected, missed)
		}
	}
}

// secrets makes the files that examples name, and returns their folder.
func secrets(t *testing.T) string {
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	public, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: public})
	seed, _, err := bus.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	recording := []byte("RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x07\x00\x01\x00\x40\x1f\x00\x00\x40\x1f\x00\x00\x01\x00\x08\x00data\x01\x00\x00\x00\xff")
	for name, b := range map[string][]byte{"lisbon.key": []byte(seed), "proxy.password": []byte("secret\n"), "pbx.password": []byte("secret\n"), "turn.secret": []byte("secret\n"), "closed.wav": recording, "wait.wav": recording, "theatre2.password": []byte("secret\n"), "nurse4.password": []byte("secret\n"), "gateway.pem": certificate, "hospital-ca.pem": certificate,
		"gateway.key": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTheExamplesOfThePagesHaveNoFault(t *testing.T) {
	files := secrets(t)
	for page, least := range map[string]int{"trunks.md": 6, "deployment.md": 6, "policy.md": 6} {
		b, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		blocks := strings.Split(string(b), "```yaml\n")[1:]
		if len(blocks) < least {
			t.Fatalf("only %d examples were found in %s", len(blocks), page)
		}
		for _, block := range blocks {
			text, _, _ := strings.Cut(block, "```")
			if strings.Contains(text, "expect:") {
				var x policy.Expectations
				if faults := config.Parse(page, []byte(text), &x).Faults(); len(faults) > 0 {
					t.Errorf("%v", faults)
				}
				continue
			}
			text = strings.ReplaceAll(text, "/etc/sipbridge", files)
			cfg := defaults()
			doc := config.Parse(page, []byte(text), &cfg)
			check(&cfg, doc)
			for _, f := range doc.Faults() {
				t.Errorf("%v in\n%s", f, text)
			}
		}
	}
}

func TestEveryFaultIsNamedAtOnceWithItsPlace(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"an unknown setting names the nearest", "sitee: x\n", `1:1: there is no setting "sitee" here; write site`},
		{"a wrong type", "drain: soon\n", "1:8: a length of time is wanted here; write a number with its unit, as in 30s, 5m or 2h"},
		{"a setting twice", "site: a\nsite: b\n", `2:1: "site" is set twice; keep one`},
		{"no YAML", "site: [\n", "this is not YAML"},
		{"an alias", "site: &a x\nrole: *a\n", "aliases are not read"},
		{"a type error in a condition is found at its column", "trunks: {pbx: {address: 'sip:10.0.0.1'}}\nroutes:\n  - name: r\n    when: call.sauce == \"x\"\n    to: [visit]\n", "4:15: undefined field 'sauce'"},
		{"a condition that is no condition", "routes: [{name: r, when: call.source, to: [visit]}]\n", "not true or false but string"},
		{"a trunk that is not there", "routes: [{name: r, to: ['trunk:nobody/1']}]\n", `1:25: no trunk is named "nobody"`},
		{"a codec that is not there", "routes: [{name: r, to: [visit], codecs: [mp3]}]\n", `no codec is named "mp3"`},
		{"two trunks with one network", "trunks:\n  a: {address: 'sip:10.0.0.1', accept_from: [10.0.0.0/24]}\n  b: {address: 'sip:10.0.0.2', accept_from: [10.0.0.0/24]}\n", "accepts from the same network"},
		{"TLS without a certificate", "sip: {listen: ['tls://0.0.0.0:5061']}\n", "there is no certificate"},
		{"SRTP as it cannot be", "trunks: {a: {address: 'sip:10.0.0.1', srtp: always}}\n", "write off, optional or required"},
		{"a role that there is not", "role: door\n", `there is no role "door"; write all, portal or engine`},
		{"a portal without engines", "role: portal\n", "a portal without engines; write sites"},
		{"a portal with trunks", "role: portal\ntrunks: {a: {address: 'sip:10.0.0.1'}}\n", "2:9: a portal has no trunks"},
		{"an engine's key that is none", "role: portal\nsites: {lisbon: {key: x}}\n", "2:23: this is no key that sipbridge key has printed"},
		{"an engine that is led nowhere", "role: engine\n", `"" does not lead to a portal; write url: wss://HOST`},
		{"an engine without a key", "role: engine\nbus: {url: 'wss://portal.example'}\n", "make one: sipbridge key FILE"},
		{"an engine with a relay", "role: engine\nturn: {relay_ports: 49152-49999}\n", "the relay is the portal's"},
		{"a way to a portal that is here", "bus: {url: 'wss://portal.example'}\n", "only an engine is led to a portal elsewhere"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := defaults()
			doc := config.Parse("f.yaml", []byte(c.file), &cfg)
			check(&cfg, doc)
			var all []string
			for _, f := range doc.Faults() {
				all = append(all, f.String())
			}
			if !strings.Contains(strings.Join(all, "\n"), c.want) {
				t.Errorf("faults:\n%s\nwant %q", strings.Join(all, "\n"), c.want)
			}
		})
	}
	cfg := defaults()
	doc := config.Parse("f.yaml", []byte("sitee: x\ndrain: soon\nrole: door\n"), &cfg)
	check(&cfg, doc)
	if n := len(doc.Faults()); n != 3 {
		t.Errorf("%d faults, want all 3 at once: %v", n, doc.Faults())
	}
}

// FuzzConfiguration: no file crashes the loader, and every fault has a place.
func FuzzConfiguration(f *testing.F) {
	f.Add([]byte(reference()))
	f.Add([]byte("routes: [{when: '('}]\ntrunks: {a: {address: 'sip:x@y;z=['}}\n"))
	f.Add([]byte("a: &x [*x]\n? {b: c}\n: d\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		cfg := defaults()
		doc := config.Parse("f.yaml", b, &cfg)
		check(&cfg, doc)
		for _, fault := range doc.Faults() {
			if fault.Line < 1 || fault.Col < 1 || fault.What == "" {
				t.Errorf("%+v", fault)
			}
		}
	})
}

func TestAVisitRingsAsLongAsVisitsSay(t *testing.T) {
	cfg := defaults()
	doc := config.Parse("f.yaml", []byte("visits: {ring: 20s}\nroutes: [{name: a, when: call.source == \"x\", to: [visit]}, {name: b, ring: 5s, to: [visit]}]\n"), &cfg)
	p := check(&cfg, doc)
	if f := doc.Faults(); len(f) > 0 {
		t.Fatal(f)
	}
	for source, want := range map[string]time.Duration{"x": 20 * time.Second, "y": 5 * time.Second} {
		if got := p.Decide(policy.Ask(source, "", "7")).Ring; got != want {
			t.Errorf("%s rings %v, want %v", source, got, want)
		}
	}
}

// What a page says of metrics is said of those that there are.
func TestThePagesNameMetricsThatThereAre(t *testing.T) {
	var code strings.Builder
	for _, file := range glob(t, "*.go") {
		code.Write(read(t, file))
	}
	suffix := regexp.MustCompile(`_(count|sum|bucket)$`)
	named := 0
	for _, page := range append(glob(t, "../../docs/*.md"), glob(t, "../../docs/decisions/*.md")...) {
		for _, metric := range regexp.MustCompile(`sipbridge_[a-z_]+[a-z]`).FindAllString(string(read(t, page)), -1) {
			named++
			if !strings.Contains(code.String(), `"`+suffix.ReplaceAllString(metric, "")+`"`) {
				t.Errorf("%s names %s, which is none", page, metric)
			}
		}
	}
	if named < 20 {
		t.Errorf("%d metrics are named", named)
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(files), err)
	}
	return files
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
