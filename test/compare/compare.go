// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package compare says in what the data of two sources differ: not in what happened, but in what is said of
// it. Which records and metrics there are, with which attributes of which types, and what else a backend
// could notice.
package compare // import "github.com/tapio-io/otelcol-tapio/test/compare"

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Kind of a finding, from the largest to the smallest.
type Kind int

const (
	// FamilyMissing is a family that one source has and the other has nothing of.
	FamilyMissing Kind = iota
	// GroupMissing is a name and variant that one has records of and the other has none.
	GroupMissing
	// FeatureMissing is an attribute or the like that records of one have, and those of the other never.
	FeatureMissing
	// FeatureRarer is one that all records of one have, and just some of the other's.
	FeatureRarer
	// ValuesDiffer is one that both have, with another type, unit or the like.
	ValuesDiffer
)

// Finding is a difference between two sources.
type Finding struct {
	Kind    Kind
	Group   Group
	Feature string
	// More is the source that has it, or has it always.
	More string
	// Text says what differs.
	Text string
	// Reason why it may be so; empty: it must not.
	Reason string
}

// Compare two sources, of which each has at least one family. Findings are in the order of the report.
func Compare(a, b *Side, allowed []Allowance) []Finding {
	c := comparison{a: a, b: b}
	for _, family := range union(a.Shape.families(), b.Shape.families()) {
		c.family(family)
	}
	for i := range c.found {
		c.found[i].Reason = reasonFor(&c.found[i], allowed)
	}
	return c.found
}

// Failures are the findings without a reason.
func Failures(found []Finding) (failures []Finding) {
	for _, f := range found {
		if f.Reason == "" {
			failures = append(failures, f)
		}
	}
	return failures
}

// String is a line of a report.
func (f Finding) String() string {
	where := f.Group.String()
	if f.Feature != "" {
		where += ": " + f.Feature
	}
	return where + " is " + f.Text
}

type comparison struct {
	a, b  *Side
	found []Finding
}

func (c *comparison) family(name string) {
	if !c.both(Finding{Kind: FamilyMissing, Group: Group{Family: name}}, c.a.Shape.hasFamily(name), c.b.Shape.hasFamily(name)) {
		return
	}
	for _, group := range union(c.a.Shape.groups(name), c.b.Shape.groups(name)) {
		inA, inB := c.a.Shape[group], c.b.Shape[group]
		if c.both(Finding{Kind: GroupMissing, Group: group}, inA != nil, inB != nil) {
			c.group(group, inA, inB)
		}
	}
}

// both tells what only one has.
func (c *comparison) both(finding Finding, inA, inB bool) bool {
	switch {
	case inA && inB:
		return true
	case inA:
		finding.More = c.a.Name
	default:
		finding.More = c.b.Name
	}
	finding.Text = "only in " + finding.More
	c.found = append(c.found, finding)
	return false
}

func (c *comparison) group(group Group, inA, inB *Records) {
	for _, name := range union(slices.Collect(maps.Keys(inA.Features)), slices.Collect(maps.Keys(inB.Features))) {
		featureA, featureB := inA.Features[name], inB.Features[name]
		if !c.both(Finding{Kind: FeatureMissing, Group: group, Feature: name}, featureA != nil, featureB != nil) {
			continue
		}
		c.presence(group, name, inA.Count == featureA.Count, inB.Count == featureB.Count)
		if valuesA, valuesB := featureA.values(), featureB.values(); valuesA != valuesB {
			c.found = append(c.found, Finding{
				Kind: ValuesDiffer, Group: group, Feature: name,
				Text: fmt.Sprintf("%s in %s, and %s in %s", orEmpty(valuesA), c.a.Name, orEmpty(valuesB), c.b.Name),
			})
		}
	}
}

func orEmpty(values string) string { return cmp.Or(values, "(empty)") }

func (c *comparison) presence(group Group, feature string, alwaysA, alwaysB bool) {
	if alwaysA == alwaysB {
		return
	}
	more, less := c.a.Name, c.b.Name
	if alwaysB {
		more, less = less, more
	}
	c.found = append(c.found, Finding{
		Kind: FeatureRarer, Group: group, Feature: feature, More: more,
		Text: fmt.Sprintf("always in %s, and sometimes in %s", more, less),
	})
}

// union of both, in the order of how they are written.
func union[T comparable](a, b []T) []T {
	all := slices.Concat(a, b)
	slices.SortFunc(all, func(x, y T) int { return cmp.Compare(fmt.Sprint(x), fmt.Sprint(y)) })
	return slices.Compact(all)
}

// Allowance is a difference that may be, and why.
type Allowance struct {
	// Kind is the largest difference that is allowed.
	Kind Kind
	// Family, Signal, Name, Variant and Feature say where; empty: anywhere. A star at the end stands for any
	// rest. Variant is one of the words of a group's variant.
	Family, Signal, Name, Variant, Feature string
	// More is the source that may have more; empty: either of them.
	More   string
	Reason string
}

func reasonFor(f *Finding, allowed []Allowance) string {
	for i := range allowed {
		if allowed[i].covers(f) {
			return allowed[i].Reason
		}
	}
	return ""
}

func (a *Allowance) covers(f *Finding) bool {
	return f.Kind >= a.Kind &&
		fits(a.Family, f.Group.Family) && fits(a.Signal, f.Group.Signal) && fits(a.Name, f.Group.Name) &&
		(a.Variant == "" || slices.Contains(strings.Fields(f.Group.Variant), a.Variant)) &&
		fits(a.Feature, f.Feature) && (a.More == "" || a.More == f.More)
}

func fits(pattern, text string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(text, prefix)
	}
	return pattern == "" || pattern == text
}
