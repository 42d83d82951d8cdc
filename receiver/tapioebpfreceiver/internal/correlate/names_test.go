// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package correlate

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// of is the set of these numbers of labels.
func of(numbers ...int) (l lengths) {
	for _, n := range numbers {
		l |= 1 << n
	}
	return l
}

func TestRelation(t *testing.T) {
	long := strings.Repeat("a.", 70) + "b"
	for _, tt := range []struct {
		first, second  string
		sure, possible lengths
	}{
		{"web.ns.svc.cluster.local", "web.svc.cluster.local", of(1), of(1)},
		{"web.svc.cluster.local", "web.cluster.local", of(1), of(1)},
		{"web.ns.svc.cluster.local", "web.cluster.local", of(1), of(1)}, // one of the list was not seen
		{"web.cluster.local", "web", of(1), of(1)},
		{"web.prod", "web.prod.ns.svc.cluster.local", of(2), of(1, 2)},
		{"a.example.com.ns.svc.cluster.local", "a.example.com.svc.cluster.local", of(3), of(1, 2, 3)},
		{"web.corp.example", "web.example.org", 0, of(1)},
		{"web.ns.svc.cluster.local", "api.svc.cluster.local", 0, 0},
		{"web.cluster.local", "web.svc.cluster.local", 0, of(1)}, // longer ones come first
		{"web.xsvc.local", "web.svc.local", 0, of(1)},            // not the same label
		{`web.x\.svc.local`, "web.svc.local", 0, of(1)},
		{"web", "web", 0, 0},
		{"web.local", "web.local", 0, of(1)},
		{"web.svc.svc.local", "web.svc.local", of(1, 2), of(1, 2)},
		{"web", "we", 0, 0},
		{"", "web", 0, 0},
		{"web", "", 0, 0},
		{".", "web", 0, 0},
		{`a\.b.c.d`, `a\.b.d`, of(1), of(1)},
		{long, long + ".c", 0, ^lengths(1)}, // it is not compared to its end
	} {
		sure, possible := relation(tt.first, tt.second)
		assert.Equal(t, tt.sure, sure, "%s, %s", tt.first, tt.second)
		assert.Equal(t, tt.possible, possible, "%s, %s", tt.first, tt.second)
	}
}

func TestLabels(t *testing.T) {
	for name, want := range map[string]int{"": 0, "a": 1, "a.b": 2, `a\.b.c`: 2, `a\\.b`: 2, `a\\\.b`: 1, "a.b.c.d": 4} {
		assert.Equal(t, want, countLabels(name), name)
		assert.Equal(t, name, firstLabels(name, want))
	}
	assert.Equal(t, "a.b", firstLabels("a.b.c.d", 2))
	assert.Equal(t, `a\.b`, firstLabels(`a\.b.c`, 1))
	assert.Empty(t, firstLabels("a.b", 0))
}
