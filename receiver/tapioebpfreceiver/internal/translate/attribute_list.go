// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/xpdata"
)

// attributeList are the attributes of a span or log record while it is described. A pcommon.Map would compare each key
// with all that are there; here, nothing puts one twice.
type attributeList struct {
	builder xpdata.MapBuilder
}

// EnsureCapacity is as that of pcommon.Map, as are the others.
func (a *attributeList) EnsureCapacity(n int) { a.builder.EnsureCapacity(n) }

func (a *attributeList) PutStr(key, value string) { a.builder.AppendEmpty(key).SetStr(value) }

func (a *attributeList) PutInt(key string, value int64) { a.builder.AppendEmpty(key).SetInt(value) }

func (a *attributeList) PutDouble(key string, value float64) {
	a.builder.AppendEmpty(key).SetDouble(value)
}

func (a *attributeList) PutBool(key string, value bool) { a.builder.AppendEmpty(key).SetBool(value) }

func (a *attributeList) putKnown(key, value string) {
	if value != "" {
		a.PutStr(key, value)
	}
}

func (a *attributeList) putStrings(key string, values []string) {
	fillStrings(a.builder.AppendEmpty(key).SetEmptySlice(), values)
}

// moveTo a map that is empty; the list is, then.
func (a *attributeList) moveTo(to pcommon.Map) { a.builder.UnsafeIntoMap(to) }
