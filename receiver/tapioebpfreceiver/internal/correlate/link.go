// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package correlate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"

import "github.com/tapio-io/otelcol-tapio/internal/links"

// Link names a request by what both ends of its connection see of it; 0: there is none. Its ids are made in
// a package of their own, as the gateway knows them, too.
type Link = links.Link

// LinkOf a request's first byte.
func LinkOf(sequence, acknowledged uint32) Link { return links.Of(sequence, acknowledged) }
