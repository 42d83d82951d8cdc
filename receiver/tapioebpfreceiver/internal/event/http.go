// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package event // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"

import (
	"fmt"
	"unsafe"

	"github.com/tapio-io/otelcol-tapio/bpf"
)

// Flags of an http_exchange record.
const (
	HTTPRequestComplete  = uint16(bpf.WireHttpFlagsHTTP_REQUEST_COMPLETE)
	HTTPResponseComplete = uint16(bpf.WireHttpFlagsHTTP_RESPONSE_COMPLETE)
	HTTPAborted          = uint16(bpf.WireHttpFlagsHTTP_ABORTED)
	HTTPClosedHere       = uint16(bpf.WireHttpFlagsHTTP_CLOSED_HERE)
	HTTPInvalidResponse  = uint16(bpf.WireHttpFlagsHTTP_INVALID_RESPONSE)
)

// Values of error.type for HTTP, beside status codes and those for connections.
const (
	// ErrorCanceled: this side, a client, let go of the connection before the response was complete.
	ErrorCanceled = "canceled"
	// ErrorConnectionClosed: the connection was closed in order before the response was complete.
	ErrorConnectionClosed = "connection_closed"
	// ErrorInvalidResponse: what came in answer is not HTTP/1.
	ErrorInvalidResponse = "invalid_response"
)

// HTTPExchange is a request and its response, seen from one end.
type HTTPExchange struct {
	*bpf.WireHttpExchange
	Request  []byte // the request's head, or the beginning of it
	Response []byte // likewise; empty where response heads are not asked for
}

// DecodeHTTPExchange views a record as an HTTPExchange.
func DecodeHTTPExchange(record []byte) (HTTPExchange, error) {
	fixed, err := view[bpf.WireHttpExchange](record, false)
	if err != nil {
		return HTTPExchange{}, err
	}
	heads := record[unsafe.Sizeof(*fixed):]
	request, response := int(fixed.RequestHeadSize), int(fixed.ResponseHeadSize)
	if request+response != len(heads) {
		return HTTPExchange{}, fmt.Errorf("%w: heads of %d and %d bytes in an http_exchange tail of %d", ErrUndecodable, request, response, len(heads))
	}
	if fixed.Ends.Role != RoleClient && fixed.Ends.Role != RoleServer {
		return HTTPExchange{}, fmt.Errorf("%w: an http_exchange of role %d", ErrUndecodable, fixed.Ends.Role)
	}
	e := HTTPExchange{WireHttpExchange: fixed, Request: heads[:request], Response: heads[request:]}
	return e, e.checkTimes()
}

func (e HTTPExchange) checkTimes() error {
	if !e.HasResponse() {
		return checkOrder(e.RequestStart, e.Header.Time)
	}
	if err := checkOrder(e.RequestStart, e.ResponseStart); err != nil {
		return err
	}
	if err := checkOrder(e.ResponseStart, e.ResponseEnd); err != nil {
		return err
	}
	return checkOrder(e.ResponseEnd, e.Header.Time)
}

// HasResponse says that a final response's status line came.
func (e HTTPExchange) HasResponse() bool { return e.Status != 0 }

// IsServer says that this end received the request.
func (e HTTPExchange) IsServer() bool { return e.Ends.Role == RoleServer }

// End is the response's last byte or, where that never came, what cut the exchange off;
// CLOCK_BOOTTIME, ns.
func (e HTTPExchange) End() uint64 {
	if e.Flags&HTTPResponseComplete != 0 && e.HasResponse() {
		return e.ResponseEnd
	}
	return e.Header.Time
}

// CutBy is the error.type of an exchange whose response did not come, or not to its end; empty for
// others.
func (e HTTPExchange) CutBy() string { return cutBy(e.Flags, e.Error, e.IsServer()) }

func cutBy(flags uint16, errno int32, isServer bool) string {
	switch {
	case flags&HTTPInvalidResponse != 0:
		return ErrorInvalidResponse
	case flags&HTTPResponseComplete != 0:
		return ""
	case errno != 0:
		return ErrorType(errno)
	case flags&HTTPClosedHere != 0 && !isServer:
		return ErrorCanceled
	case flags&HTTPAborted != 0:
		return ErrorConnectionReset
	default:
		return ErrorConnectionClosed
	}
}
