package sip

import (
	"testing"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"

	"github.com/sipbridge/sipbridge/internal/policy"
)

func TestReplacesNamesAWholeDialogOrNone(t *testing.T) {
	for v, want := range map[string]string{
		"abc@pbx;to-tag=1;from-tag=2":                "abc@pbx;to-tag=1;from-tag=2",
		" abc@pbx ; From-Tag=2 ;to-tag=1;early-only": "abc@pbx;to-tag=1;from-tag=2;early-only",
		"abc@pbx;to-tag=1":                           "",
		";to-tag=1;from-tag=2":                       "",
		"abc;to-tag=;from-tag=2":                     "",
		"abc\r\nX: y;to-tag=1;from-tag=2":            "",
		"abc,def;to-tag=1;from-tag=2":                "",
		"":                                           "",
	} {
		r, ok := parseReplaces(v)
		if got := r.String(); ok != (want != "") || ok && got != want {
			t.Errorf("%q was read as %q, %v", v, got, ok)
		}
	}
}

func TestTheFirstAddressIsAsserted(t *testing.T) {
	for v, want := range map[string]policy.Address{
		`"Dr Sousa" <sip:4711@pbx.example>, <tel:+351210000000>`: {User: "4711", Host: "pbx.example", Display: "Dr Sousa"},
		`<sip:4711@pbx.example;user=phone>`:                      {User: "4711", Host: "pbx.example"},
		`<sip:pbx.example>`:                                      {},
		`nonsense`:                                               {},
		`<`:                                                      {},
		``:                                                       {},
	} {
		if got, ok := asserted(v); got != want || ok != (want.User != "") {
			t.Errorf("%q was read as %+v, %v", v, got, ok)
		}
	}
}

func TestSecondsAreReadWithTheirParameter(t *testing.T) {
	for v, want := range map[string]struct {
		d     time.Duration
		value string
		ok    bool
	}{
		"1800;refresher=UAC":         {1800 * time.Second, "uac", true},
		"90 ; x=y ; refresher = uas": {90 * time.Second, "uas", true},
		"90":                         {90 * time.Second, "", true},
		"4294967295":                 {4294967295 * time.Second, "", true},
		"4294967296":                 {},
		"-1":                         {},
		"soon":                       {},
		";refresher=uac":             {},
	} {
		req := sipmsg.NewRequest(sipmsg.INVITE, sipmsg.Uri{Host: "x"})
		req.AppendHeader(header("Session-Expires", v))
		if d, value, ok := expiry(req); d != want.d || value != want.value || ok != want.ok {
			t.Errorf("%q was read as %v, %q, %v", v, d, value, ok)
		}
	}
}
