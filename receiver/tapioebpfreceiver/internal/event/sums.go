// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package event // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/tapio-io/otelcol-tapio/bpf"
)

var (
	// DurationBounds are those that the conventions give for http.*.request.duration and dns.lookup.duration,
	// seconds; a value on a bound is below it.
	DurationBounds = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
	// BodyBounds go from no body to a GiB, bytes; the conventions give none.
	BodyBounds = []float64{0, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20, 1 << 30}
	// RoundTripBounds go from a neighbour in the rack (0.1 ms) to a SYN that was sent again twice, seconds.
	RoundTripBounds = []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}
	// LifetimeBounds go from a request of its own to connection pools, seconds.
	LifetimeBounds = []float64{0.005, 0.025, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600}
)

// HTTPSumBuckets there are in each of the histograms of an HTTPSum, those that no bound has included.
const HTTPSumBuckets = len(bpf.WireHttpSums{}.Durations)

// HTTPSum is what HTTP exchanges have in common that were beyond the limit of their cgroup, and their sums since the
// last of these records. In the first buckets are what DurationBounds and BodyBounds say.
type HTTPSum struct {
	*bpf.WireHttpSum
}

// DecodeHTTPSum views a record as an HTTPSum.
func DecodeHTTPSum(record []byte) (HTTPSum, error) {
	fixed, err := view[bpf.WireHttpSum](record, true)
	if err != nil {
		return HTTPSum{}, err
	}
	if role := fixed.Key.Role; role != RoleClient && role != RoleServer {
		return HTTPSum{}, fmt.Errorf("%w: sums of HTTP exchanges of role %d", ErrUndecodable, role)
	}
	e := HTTPSum{fixed}
	return e, e.checkBuckets()
}

// maxSummed is far more than a kernel counts between two records, and far from where numbers begin anew.
const maxSummed = 1 << 48

// checkBuckets: what is behind the bounds cannot be counted.
func (e HTTPSum) checkBuckets() error {
	if max(slices.Max(e.Sums.Durations[:]), slices.Max(e.Sums.RequestSizes[:]), slices.Max(e.Sums.ResponseSizes[:])) > maxSummed {
		return fmt.Errorf("%w: sums of more than %d HTTP exchanges", ErrUndecodable, uint64(maxSummed))
	}
	if hasMore(e.Sums.Durations[:], DurationBounds) || hasMore(e.Sums.RequestSizes[:], BodyBounds) || hasMore(e.Sums.ResponseSizes[:], BodyBounds) {
		return fmt.Errorf("%w: sums of HTTP exchanges in buckets that there are not", ErrUndecodable)
	}
	return nil
}

func hasMore(buckets []uint64, bounds []float64) bool {
	return total(buckets[len(bounds)+1:]) > 0
}

func total(buckets []uint64) (sum uint64) {
	for _, n := range buckets {
		sum += n
	}
	return sum
}

// Events is how many exchanges these are.
func (e HTTPSum) Events() uint64 { return total(e.Sums.Durations[:]) }

// IsServer says that this end received the requests.
func (e HTTPSum) IsServer() bool { return e.Key.Role == RoleServer }

// OfAnyPeer says that these are all that there was no room to keep apart by process and peer.
func (e HTTPSum) OfAnyPeer() bool { return e.Key.PeerAddress == [16]byte{} }

// CutBy is as that of an HTTPExchange.
func (e HTTPSum) CutBy() string { return cutBy(e.Key.Flags, e.Key.Error, e.IsServer()) }

// methods by enum http_method_number.
var methods = [...]string{
	bpf.WireHttpMethodNumberHTTP_METHOD_GET:     "GET",
	bpf.WireHttpMethodNumberHTTP_METHOD_HEAD:    "HEAD",
	bpf.WireHttpMethodNumberHTTP_METHOD_POST:    "POST",
	bpf.WireHttpMethodNumberHTTP_METHOD_PUT:     "PUT",
	bpf.WireHttpMethodNumberHTTP_METHOD_PATCH:   "PATCH",
	bpf.WireHttpMethodNumberHTTP_METHOD_DELETE:  "DELETE",
	bpf.WireHttpMethodNumberHTTP_METHOD_CONNECT: "CONNECT",
	bpf.WireHttpMethodNumberHTTP_METHOD_OPTIONS: "OPTIONS",
	bpf.WireHttpMethodNumberHTTP_METHOD_TRACE:   "TRACE",
	bpf.WireHttpMethodNumberHTTP_METHOD_QUERY:   "QUERY",
}

// Method is empty if it is none that the conventions list.
func (e HTTPSum) Method() string {
	if int(e.Key.Method) >= len(methods) {
		return ""
	}
	return methods[e.Key.Method]
}

// ConnectionSumBuckets there are in each of the histograms of a ConnectionSum.
const ConnectionSumBuckets = len(bpf.WireConnectionSums{}.Durations)

// ConnectionSum is what events of connections and flows have in common that were beyond the limit of their cgroup, and their
// sums since the last of these records. Durations have RoundTripBounds if they are of handshakes, else LifetimeBounds.
type ConnectionSum struct {
	*bpf.WireConnectionSum
}

// DecodeConnectionSum views a record as a ConnectionSum.
func DecodeConnectionSum(record []byte) (ConnectionSum, error) {
	fixed, err := view[bpf.WireConnectionSum](record, true)
	if err != nil {
		return ConnectionSum{}, err
	}
	e := ConnectionSum{fixed}
	if kind := Type(fixed.Key.Type); kind != TypeConnectionConnect && kind != TypeConnectionClose {
		return ConnectionSum{}, fmt.Errorf("%w: sums of events of type %#x", ErrUndecodable, fixed.Key.Type)
	}
	if max(fixed.Sums.Events, slices.Max(fixed.Sums.Durations[:]), slices.Max(fixed.Sums.Rtts[:])) > maxSummed {
		return ConnectionSum{}, fmt.Errorf("%w: sums of more than %d events", ErrUndecodable, uint64(maxSummed))
	}
	if hasMore(e.Sums.Durations[:], e.DurationBounds()) {
		return ConnectionSum{}, fmt.Errorf("%w: sums of connections in buckets that there are not", ErrUndecodable)
	}
	return e, nil
}

// IsConnect says that these were handshakes, done or failed; else they have ended.
func (e ConnectionSum) IsConnect() bool { return Type(e.Key.Type) == TypeConnectionConnect }

// DurationBounds are those of Durations, seconds.
func (e ConnectionSum) DurationBounds() []float64 {
	if e.IsConnect() {
		return RoundTripBounds
	}
	return LifetimeBounds
}

// Ends are those of any of them, as far as they have them in common: the peer's address says but whether it is IPv4.
func (e ConnectionSum) Ends() bpf.WireConnectionEnds {
	ends := bpf.WireConnectionEnds{Protocol: e.Key.Protocol, Role: e.Key.Role}
	if e.Key.IsIpv4 != 0 {
		ends.PeerAddress = netip.IPv4Unspecified().As16()
	}
	return ends
}

// DecodeProcessSum views a record as how many programs were started, or processes ended with one status, that were beyond the
// limit of their cgroup, since the last of these records.
func DecodeProcessSum(record []byte) (*bpf.WireProcessSum, error) {
	e, err := view[bpf.WireProcessSum](record, true)
	if err != nil {
		return nil, err
	}
	if kind := Type(e.Key.Type); kind != TypeProcessExec && kind != TypeProcessExit {
		return nil, fmt.Errorf("%w: sums of events of type %#x", ErrUndecodable, e.Key.Type)
	}
	if e.Sums.Events > maxSummed {
		return nil, fmt.Errorf("%w: sums of more than %d events", ErrUndecodable, uint64(maxSummed))
	}
	return e, nil
}

// TLSSum is what TLS handshakes have in common that were beyond the limit of their cgroup, and their sums since the last of these
// records. In the first buckets are what DurationBounds say.
type TLSSum struct {
	*bpf.WireTlsSum
}

// DecodeTLSSum views a record as a TLSSum.
func DecodeTLSSum(record []byte) (TLSSum, error) {
	fixed, err := view[bpf.WireTlsSum](record, true)
	if err != nil {
		return TLSSum{}, err
	}
	if role := fixed.Key.Role; role != RoleClient && role != RoleServer {
		return TLSSum{}, fmt.Errorf("%w: sums of TLS handshakes of role %d", ErrUndecodable, role)
	}
	if slices.Max(fixed.Sums.Durations[:]) > maxSummed {
		return TLSSum{}, fmt.Errorf("%w: sums of more than %d TLS handshakes", ErrUndecodable, uint64(maxSummed))
	}
	if hasMore(fixed.Sums.Durations[:], DurationBounds) {
		return TLSSum{}, fmt.Errorf("%w: sums of TLS handshakes in buckets that there are not", ErrUndecodable)
	}
	return TLSSum{fixed}, nil
}

// Events is how many handshakes these are.
func (e TLSSum) Events() uint64 { return total(e.Sums.Durations[:]) }

// ErrorType is as that of a TLSHandshake.
func (e TLSSum) ErrorType() string {
	return handshakeError(e.Key.Flags, e.Key.Alert, e.Key.Error, e.Key.Role == RoleServer)
}

// SummedIn a record are events of another family; false: it is of one event, or makes no sense.
func SummedIn(record []byte) (family Family, events uint64, ok bool) {
	header, err := DecodeHeader(record)
	if err != nil {
		return 0, 0, false
	}
	switch Type(header.Type) {
	case TypeHTTPSum:
		if e, err := DecodeHTTPSum(record); err == nil {
			return FamilyHTTP, e.Events(), true
		}
	case TypeConnectionSum:
		if e, err := DecodeConnectionSum(record); err == nil {
			return FamilyNetwork, e.Sums.Events, true
		}
	case TypeProcessSum:
		if e, err := DecodeProcessSum(record); err == nil {
			return FamilyProcess, e.Sums.Events, true
		}
	case TypeTLSSum:
		if e, err := DecodeTLSSum(record); err == nil {
			return FamilyNetwork, e.Events(), true
		}
	default:
	}
	return 0, 0, false
}
