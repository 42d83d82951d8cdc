// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapiojoinprocessor // import "github.com/tapio-io/otelcol-tapio/processor/tapiojoinprocessor"

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/client"
)

// sender is who has sent what waits. What comes behind this processor may look at that (client.FromContext): a tenant is
// told by metadata, and a pod by the address.
type sender struct {
	key  senderKey
	info client.Info
}

// senderKey is alike for what may go on together: a host's connections, and a tenant's batches.
type senderKey struct {
	host     string
	metadata string
	batch    *client.Info // of what has credentials, which cannot be compared
}

func senderOf(ctx context.Context) *sender {
	s := &sender{info: client.FromContext(ctx)}
	s.key.host, s.key.metadata = hostOf(s.info.Addr), textOf(s.info.Metadata)
	if s.info.Auth != nil {
		s.key.batch = &s.info
	}
	return s
}

// hostOf an address, without the port, of which each connection has another.
func hostOf(address net.Addr) string {
	if address == nil {
		return ""
	}
	text := address.String()
	if host, _, err := net.SplitHostPort(text); err == nil {
		return host
	}
	return text
}

func textOf(metadata client.Metadata) string {
	var text strings.Builder
	for _, key := range slices.Sorted(metadata.Keys()) {
		fmt.Fprintf(&text, "%q%q", key, metadata.Get(key))
	}
	return text.String()
}

// context of what waited: nobody waits for it any more, but it is the sender's as before.
func (s *sender) context() context.Context { return client.NewContext(context.Background(), s.info) }
