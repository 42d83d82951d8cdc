// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapiojoinprocessor // import "github.com/tapio-io/otelcol-tapio/processor/tapiojoinprocessor"

import (
	"context"

	"go.opentelemetry.io/collector/client"
)

// sender is who has sent what waits. What comes behind this processor may look at that (client.FromContext): a tenant is
// told by metadata, and a pod by the address.
type sender struct {
	key  senderKey
	info client.Info
}

// senderKey is alike for what may go on together. Credentials and metadata cannot be compared: what has some goes on with what came
// in the same batch.
type senderKey struct {
	address string
	batch   *client.Info // nil: it has none
}

func senderOf(ctx context.Context) *sender {
	s := &sender{info: client.FromContext(ctx)}
	if s.info.Addr != nil {
		s.key.address = s.info.Addr.String()
	}
	if s.info.Auth != nil || hasMetadata(s.info.Metadata) {
		s.key.batch = &s.info
	}
	return s
}

func hasMetadata(metadata client.Metadata) bool {
	for range metadata.Keys() {
		return true
	}
	return false
}

// context of what waited: nobody waits for it any more, but it is the sender's as before.
func (s *sender) context() context.Context { return client.NewContext(context.Background(), s.info) }
