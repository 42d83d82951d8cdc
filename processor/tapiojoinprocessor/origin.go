// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapiojoinprocessor // import "github.com/tapio-io/otelcol-tapio/processor/tapiojoinprocessor"

import "go.opentelemetry.io/collector/pdata/pcommon"

// origin is what spans or log records were below, copied once for all that wait from there: what goes on may be
// changed.
type origin struct {
	sender         *sender
	resource       pcommon.Resource
	resourceSchema string
	scope          pcommon.InstrumentationScope
	schema         string
}

// ofResource is what pdata has of a resource for each signal, and ofScope of a scope.
type ofResource interface {
	Resource() pcommon.Resource
	SchemaUrl() string
	SetSchemaUrl(string)
}

type ofScope interface {
	Scope() pcommon.InstrumentationScope
	SchemaUrl() string
	SetSchemaUrl(string)
}

func newOrigin(from *sender, of ofResource, scope ofScope) *origin {
	o := &origin{
		sender:   from,
		resource: pcommon.NewResource(), resourceSchema: of.SchemaUrl(),
		scope: pcommon.NewInstrumentationScope(), schema: scope.SchemaUrl(),
	}
	of.Resource().CopyTo(o.resource)
	scope.Scope().CopyTo(o.scope)
	return o
}

// copyTo what is to have it again.
func (o *origin) copyTo(of ofResource, scope ofScope) {
	o.resource.CopyTo(of.Resource())
	of.SetSchemaUrl(o.resourceSchema)
	o.scope.CopyTo(scope.Scope())
	scope.SetSchemaUrl(o.schema)
}
