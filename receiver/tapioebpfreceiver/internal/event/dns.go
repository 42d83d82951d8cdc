// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package event // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"

import (
	"fmt"
	"unsafe"

	"github.com/tapio-io/otelcol-tapio/bpf"
)

// DNSSent is the flag of a dns_message that this side sent.
const DNSSent = uint32(bpf.WireDnsFlagsDNS_SENT)

// DNSMessage is a DNS message over UDP, or a segment of a TCP connection that carries messages.
type DNSMessage struct {
	*bpf.WireDnsMessage
	Payload []byte // as much of it as was captured
}

// DecodeDNSMessage views a record as a DNSMessage. Records come in a few sizes: what stands behind
// the captured bytes is padding.
func DecodeDNSMessage(record []byte) (DNSMessage, error) {
	fixed, err := view[bpf.WireDnsMessage](record, false)
	if err != nil {
		return DNSMessage{}, err
	}
	tail := record[unsafe.Sizeof(*fixed):]
	if fixed.Captured > fixed.Size || int64(fixed.Captured) > int64(len(tail)) {
		return DNSMessage{}, fmt.Errorf("%w: %d of %d bytes captured in a dns_message tail of %d", ErrUndecodable, fixed.Captured, fixed.Size, len(tail))
	}
	return DNSMessage{WireDnsMessage: fixed, Payload: tail[:fixed.Captured]}, nil
}
