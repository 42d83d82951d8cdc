// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package compare // import "github.com/tapio-io/otelcol-tapio/test/compare"

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Report of a comparison, as Markdown.
func Report(a, b *Side, found []Finding) string {
	var r report
	r.costs(a, b)
	r.events(a, b)
	r.groups(a, b, found)
	r.differences(found)
	r.reasons(found)
	return r.String()
}

type report struct{ strings.Builder }

func (r *report) line(format string, args ...any) {
	r.WriteString(fmt.Sprintf(format, args...) + "\n")
}

func (r *report) table(heads ...string) {
	r.row(heads...)
	r.row(slices.Repeat([]string{"---"}, len(heads))...)
}

func (r *report) row(cells ...string) {
	r.line("| %s |", strings.Join(cells, " | "))
}

func (r *report) costs(a, b *Side) {
	r.line("## Collectors\n")
	r.table("", a.Name, b.Name)
	for _, cost := range []struct {
		what string
		of   func(*Side) string
	}{
		{"ran for", func(s *Side) string { return s.Ran.Round(100 * time.Millisecond).String() }},
		{"CPU time", func(s *Side) string { return s.CPU.String() }},
		{"memory (RSS)", func(s *Side) string { return fmt.Sprintf("%.1f MiB", float64(s.RSS)/(1<<20)) }},
		{"/healthz", func(s *Side) string { return s.answerOf("/healthz") }},
		{"/readyz", func(s *Side) string { return s.answerOf("/readyz") }},
		{"/stats", func(s *Side) string { return s.answerOf("/stats") }},
	} {
		r.row(cost.what, cost.of(a), cost.of(b))
	}
}

// answerOf an endpoint: its status.
func (s *Side) answerOf(path string) string {
	records := s.Shape[Group{Family: endpoints, Signal: "http", Name: path}]
	if records == nil {
		return "not asked"
	}
	return records.Features["status"].values()
}

func (r *report) events(a, b *Side) {
	r.line("\n## Events\n")
	r.table("family", a.Name, "share", "lost", "ledger", b.Name, "share", "lost", "ledger")
	for _, family := range union(slices.Collect(maps.Keys(a.Ledger)), slices.Collect(maps.Keys(b.Ledger))) {
		r.row(slices.Concat([]string{family}, a.eventsOf(family), b.eventsOf(family))...)
	}
}

func (s *Side) eventsOf(family string) []string {
	row, ok := s.Ledger[family]
	if !ok {
		return []string{"-", "-", "-", "-"}
	}
	closes := "closes"
	if !row.Closes() {
		closes = "OPEN"
	}
	return []string{fmt.Sprint(row.Seen), s.share(family), fmt.Sprint(row.lost()), closes}
}

// share of all events; the kernel's records for identity are none.
func (s *Side) share(family string) string {
	if family == ofIdentity {
		return "-"
	}
	var all uint64
	for name, row := range s.Ledger {
		if name != ofIdentity {
			all += row.Seen
		}
	}
	return fmt.Sprintf("%.1f %%", 100*float64(s.Ledger[family].Seen)/float64(max(all, 1)))
}

// ofIdentity is a family of the ledger that has no telemetry of its own.
const ofIdentity = "cgroup"

func (r *report) groups(a, b *Side, found []Finding) {
	failed, allowed := map[string]int{}, map[string]int{}
	for _, f := range found {
		counts := allowed
		if f.Reason == "" {
			counts = failed
		}
		counts[f.Group.String()]++
	}
	for _, family := range union(a.Shape.families(), b.Shape.families()) {
		r.line("\n## %s\n", family)
		r.table("signal", "of", a.Name, b.Name, "shape")
		for _, group := range union(a.Shape.groups(family), b.Shape.groups(family)) {
			result := "same"
			whole := Group{Family: family}.String()
			switch n := failed[group.String()] + failed[whole]; {
			case n > 0:
				result = fmt.Sprintf("**differs** (%d)", n)
			case allowed[group.String()]+allowed[whole] > 0:
				result = fmt.Sprintf("differs with a reason (%d)", allowed[group.String()]+allowed[whole])
			}
			r.row(group.Signal, strings.TrimSpace(group.Name+" "+bracketed(group.Variant)), a.count(group), b.count(group), result)
		}
	}
}

func bracketed(variant string) string {
	if variant == "" {
		return ""
	}
	return "[" + variant + "]"
}

func (s *Side) count(group Group) string {
	if records := s.Shape[group]; records != nil {
		return fmt.Sprint(records.Count)
	}
	return "-"
}

func (r *report) differences(found []Finding) {
	failures := Failures(found)
	r.line("\n## Differences: %d\n", len(failures))
	for _, f := range failures {
		r.line("- %s", f)
	}
}

// reasons of what may differ, each with what it is for, and in how many groups.
func (r *report) reasons(found []Finding) {
	byReason := map[string]map[string]int{}
	for _, f := range found {
		if f.Reason == "" {
			continue
		}
		if byReason[f.Reason] == nil {
			byReason[f.Reason] = map[string]int{}
		}
		byReason[f.Reason][f.what()]++
	}
	r.line("\n## Differences with a reason: %d\n", len(found)-len(Failures(found)))
	for _, reason := range slices.Sorted(maps.Keys(byReason)) {
		r.line("- %s", reason)
		for _, what := range slices.Sorted(maps.Keys(byReason[reason])) {
			r.line("  - %s (%d groups)", what, byReason[reason][what])
		}
	}
}

// what differs, wherever it does.
func (f Finding) what() string {
	if f.Feature == "" {
		return f.String()
	}
	return f.Feature + " is " + f.Text
}
