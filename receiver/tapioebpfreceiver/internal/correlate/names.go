// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package correlate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"

import (
	"math/bits"
	"strings"
)

// maxLabels of a name that is compared with others. Longer ones are no names of services.
const maxLabels = 63

// lengths is a set of how many labels a base may have: bit n is for n labels.
type lengths uint64

func (l lengths) has(n int) bool { return l>>n&1 == 1 }

func (l lengths) shortest() int { return bits.TrailingZeros64(uint64(l)) }

func (l lengths) isOne() bool { return bits.OnesCount64(uint64(l)) == 1 }

// relation of two names that one process asked for, one after the other: the bases that both may
// have been made of, by their lengths. Of those in sure, the suffixes fit a search list:
//   - the second suffix is a part of the first, as cluster.local of svc.cluster.local,
//   - the second name has no suffix: the name as it was given is tried last, or
//   - the first has none: it is tried first.
//
// Both names have the same beginning with those in possible, and nothing else is known.
func relation(first, second string) (sure, possible lengths) {
	for n, rest1, rest2 := 1, first, second; n <= maxLabels; n++ {
		label1, after1 := cutLabel(rest1)
		label2, after2 := cutLabel(rest2)
		if label1 != label2 || label1 == "" || after1 == "" && after2 == "" {
			return sure, possible
		}
		possible |= 1 << n
		if after1 == "" || after2 == "" || isPartOf(after1, after2) {
			sure |= 1 << n
		}
		if after1 == "" || after2 == "" {
			return sure, possible
		}
		rest1, rest2 = after1, after2
	}
	return sure, possible
}

// isPartOf says that the last labels of a suffix are the other one, and not all of them.
func isPartOf(suffix, other string) bool {
	before, found := strings.CutSuffix(suffix, other)
	return found && len(before) > 1 && before[len(before)-1] == '.' && before[len(before)-2] != '\\'
}

// cutLabel takes off a name's first label. A dot behind a backslash is part of one.
func cutLabel(name string) (label, rest string) {
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '\\':
			i++
		case '.':
			return name[:i], name[i+1:]
		}
	}
	return name, ""
}

// firstLabels of a name.
func firstLabels(name string, n int) string {
	rest := name
	for range n {
		_, rest = cutLabel(rest)
	}
	return strings.TrimSuffix(name[:len(name)-len(rest)], ".")
}

func countLabels(name string) (n int) {
	for ; name != ""; n++ {
		_, name = cutLabel(name)
	}
	return n
}
