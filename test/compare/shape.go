// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package compare // import "github.com/tapio-io/otelcol-tapio/test/compare"

import (
	"maps"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// Shape is what a source says, without what happened.
type Shape map[Group]*Records

// Group is the records that should look alike.
type Group struct {
	Family, Signal, Name string
	// Variant is the words for what decides which attributes there are: "tcp client failed".
	Variant string
}

// String is as in the report.
func (g Group) String() string {
	text := g.Family
	if g.Name != "" {
		text += ", " + g.Signal + ": " + g.Name
	}
	if g.Variant != "" {
		text += " [" + g.Variant + "]"
	}
	return text
}

// Records of a group.
type Records struct {
	Count    int
	Features map[string]*Feature
}

// Feature is an attribute or something else that records may have.
type Feature struct {
	Count int             // of records that have it
	Kinds map[string]bool // of an attribute its types, else the values themselves
}

func (f *Feature) values() string { return strings.Join(slices.Sorted(maps.Keys(f.Kinds)), " or ") }

// record is one that is being added.
type record struct {
	group    Group
	features map[string]string
}

func (r *record) has(feature, kind string) { r.features[feature] = kind }

func (r *record) hasIf(present bool, feature string) {
	if present {
		r.has(feature, "there")
	}
}

func (r *record) attributes(of pcommon.Map) {
	for key, value := range of.All() {
		r.has("attribute "+key, typeOf(value))
	}
}

// typeOf an attribute: of a list with the types of what is in it.
func typeOf(value pcommon.Value) string {
	if value.Type() != pcommon.ValueTypeSlice {
		return value.Type().String()
	}
	types := map[string]bool{}
	for _, element := range value.Slice().All() {
		types[typeOf(element)] = true
	}
	return "list of " + strings.Join(slices.Sorted(maps.Keys(types)), ", ")
}

func (s Shape) add(r *record) {
	records := s[r.group]
	if records == nil {
		records = &Records{Features: map[string]*Feature{}}
		s[r.group] = records
	}
	records.Count++
	for name, kind := range r.features {
		feature := records.Features[name]
		if feature == nil {
			feature = &Feature{Kinds: map[string]bool{}}
			records.Features[name] = feature
		}
		feature.Count++
		feature.Kinds[kind] = true
	}
}

func (s Shape) families() (names []string) {
	for group := range s {
		names = append(names, group.Family)
	}
	return names
}

func (s Shape) hasFamily(name string) bool { return len(s.groups(name)) > 0 }

func (s Shape) groups(family string) (found []Group) {
	for group := range s {
		if group.Family == family {
			found = append(found, group)
		}
	}
	return found
}

// aliases are families whose names do not begin with theirs.
var aliases = map[string]string{"tcp": "network"}

// FamilyOf a name of a span, an event or a metric: its first part, after the prefix of our own.
func FamilyOf(name string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(name, "tapio."), ".")
	if alias, ok := aliases[first]; ok {
		return alias
	}
	return first
}

// deciding are the attributes that decide which others there are: by their value, or by being there.
var (
	decidingValues   = []string{"network.transport", "tapio.network.role"}
	decidingPresence = []struct{ attribute, word string }{
		{"tapio.process.exit.signal", "by-signal"},
		{"process.exit.time", "ended"},
		{"tapio.network.sent_bytes", "carried"},
		{"http.response.status_code", "answered"},
		{"tapio.dns.response_code", "answered"},
		{"error.type", "failed"},
		{"otel.metric.overflow", "overflow"},
	}
)

func variantOf(attributes pcommon.Map) (words []string) {
	for _, key := range decidingValues {
		if value, ok := attributes.Get(key); ok {
			words = append(words, value.AsString())
		}
	}
	for _, deciding := range decidingPresence {
		if _, ok := attributes.Get(deciding.attribute); ok {
			words = append(words, deciding.word)
		}
	}
	return words
}

// resource of a record: by where the process is, since that decides which attributes there are.
func (s Shape) resource(family, signal string, resource pcommon.Resource, schemaURL string) {
	r := record{group: Group{Family: family, Signal: signal, Name: "resource"}, features: map[string]string{}}
	attributes := resource.Attributes()
	switch {
	case hasAttribute(attributes, "container.id"):
		r.group.Variant = "container"
	case hasAttribute(attributes, "tapio.systemd.unit"):
		r.group.Variant = "unit"
	}
	r.attributes(attributes)
	if source, ok := attributes.Get(attrSource); ok {
		r.has(sourceFeature, source.AsString())
	}
	r.has("schema", schemaURL)
	s.add(&r)
}

const (
	attrSource    = "tapio.source"
	sourceFeature = "source"
)

// Sources that resources say to be from.
func (s Shape) Sources() []string {
	found := map[string]bool{}
	for _, records := range s {
		if feature := records.Features[sourceFeature]; feature != nil {
			maps.Copy(found, feature.Kinds)
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func hasAttribute(attributes pcommon.Map, key string) bool {
	_, ok := attributes.Get(key)
	return ok
}
