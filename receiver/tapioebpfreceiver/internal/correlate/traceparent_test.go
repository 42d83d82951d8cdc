// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package correlate

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

const (
	traceText = "4bf92f3577b34da6a3ce929d0e0e4736"
	spanText  = "00f067aa0ba902b7"
	valid     = "00-" + traceText + "-" + spanText + "-01"
)

func TestParseContext(t *testing.T) {
	for _, tt := range []struct {
		name    string
		parents []string
		states  string
		flags   uint8
		state   string
	}{
		{"sampled", []string{valid}, "", 1, ""},
		{"not sampled", []string{"00-" + traceText + "-" + spanText + "-00"}, "", 0, ""},
		{"random", []string{"00-" + traceText + "-" + spanText + "-03"}, "", 3, ""},
		{"a later version", []string{"01-" + traceText + "-" + spanText + "-01-more"}, "", 1, ""},
		{"state", []string{valid}, "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7", 1, "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"},
		{"invalid state", []string{valid}, "=,", 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ParseContext(tt.parents, tt.states)
			assert.True(t, got.IsValid())
			assert.Equal(t, traceText, hex.EncodeToString(got.TraceID[:]))
			assert.Equal(t, spanText, hex.EncodeToString(got.SpanID[:]))
			assert.Equal(t, tt.flags, got.Flags&3)
			assert.Equal(t, tt.state, got.State)
		})
	}
}

// Invalid ones are as if they were not there (W3C Trace Context, 2.3).
func TestParseContextThatIsInvalid(t *testing.T) {
	for _, parents := range [][]string{
		nil,
		{""},
		{valid, valid},
		{"ff-" + traceText + "-" + spanText + "-01"},
		{valid + "-more"},
		{"00-" + strings.ToUpper(traceText) + "-" + spanText + "-01"},
		{"00-" + strings.Repeat("0", 32) + "-" + spanText + "-01"},
		{"00-" + traceText + "-" + strings.Repeat("0", 16) + "-01"},
		{"00-" + traceText[1:] + "-" + spanText + "-01"},
		{"00-" + traceText + "-" + spanText},
		{"00-" + traceText + "-" + spanText + "-zz"},
		{strings.Repeat("x", 10_000)},
	} {
		got := ParseContext(parents, "a=b")
		assert.Zero(t, got, parents)
		assert.False(t, got.IsValid())
	}
}

func FuzzParseContext(f *testing.F) {
	f.Add(valid, "a=b")
	f.Add("00-\x00", "=,=")
	f.Fuzz(func(t *testing.T, parent, states string) {
		if got := ParseContext([]string{parent}, states); got.IsValid() {
			assert.NotZero(t, got.SpanID)
		}
	})
}
