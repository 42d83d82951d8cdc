// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package event // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"

import (
	"fmt"
	"unsafe"

	"github.com/tapio-io/otelcol-tapio/bpf"
)

// Flags of a tls_handshake record.
const (
	TLSEstablished    = uint16(bpf.WireTlsFlagsTLS_ESTABLISHED)
	TLSAlert          = uint16(bpf.WireTlsFlagsTLS_ALERT)
	TLSEncryptedAlert = uint16(bpf.WireTlsFlagsTLS_ENCRYPTED_ALERT)
	TLSAlertReceived  = uint16(bpf.WireTlsFlagsTLS_ALERT_RECEIVED)
	TLSNotTLS         = uint16(bpf.WireTlsFlagsTLS_NOT_TLS)
	TLSRetried        = uint16(bpf.WireTlsFlagsTLS_RETRIED)
	TLSClientHelloCut = uint16(bpf.WireTlsFlagsTLS_CLIENT_HELLO_CUT)
	TLSAborted        = uint16(bpf.WireTlsFlagsTLS_ABORTED)
	TLSClosedHere     = uint16(bpf.WireTlsFlagsTLS_CLOSED_HERE)
)

// ErrorEncryptedAlert is the error.type of a handshake that was ended by an alert which only the two ends can
// read. Others than that are the alert's name, and those of HTTP and of connections.
const ErrorEncryptedAlert = "encrypted_alert"

// alerts by number: RFC 8446, appendix B.2, with those of older versions that it lists, and two that IANA has registered
// since: general_error, and ech_required, of Encrypted ClientHello.
var alerts = map[uint8]string{
	0:   "close_notify",
	10:  "unexpected_message",
	20:  "bad_record_mac",
	21:  "decryption_failed",
	22:  "record_overflow",
	30:  "decompression_failure",
	40:  "handshake_failure",
	41:  "no_certificate",
	42:  "bad_certificate",
	43:  "unsupported_certificate",
	44:  "certificate_revoked",
	45:  "certificate_expired",
	46:  "certificate_unknown",
	47:  "illegal_parameter",
	48:  "unknown_ca",
	49:  "access_denied",
	50:  "decode_error",
	51:  "decrypt_error",
	60:  "export_restriction",
	70:  "protocol_version",
	71:  "insufficient_security",
	80:  "internal_error",
	86:  "inappropriate_fallback",
	90:  "user_canceled",
	100: "no_renegotiation",
	109: "missing_extension",
	110: "unsupported_extension",
	111: "certificate_unobtainable",
	112: "unrecognized_name",
	113: "bad_certificate_status_response",
	114: "bad_certificate_hash_value",
	115: "unknown_psk_identity",
	116: "certificate_required",
	117: "general_error",
	120: "no_application_protocol",
	121: "ech_required",
}

// TLSHandshake is a handshake, seen from one end.
type TLSHandshake struct {
	*bpf.WireTlsHandshake
	ClientHello []byte // the message, or the beginning of it
	ServerHello []byte // likewise; empty: none came
}

// DecodeTLSHandshake views a record as a TLSHandshake.
func DecodeTLSHandshake(record []byte) (TLSHandshake, error) {
	fixed, err := view[bpf.WireTlsHandshake](record, false)
	if err != nil {
		return TLSHandshake{}, err
	}
	hellos := record[unsafe.Sizeof(*fixed):]
	client, server := int(fixed.ClientHelloSize), int(fixed.ServerHelloSize)
	if client+server != len(hellos) {
		return TLSHandshake{}, fmt.Errorf("%w: hellos of %d and %d bytes in a tls_handshake tail of %d", ErrUndecodable, client, server, len(hellos))
	}
	if fixed.Ends.Role != RoleClient && fixed.Ends.Role != RoleServer {
		return TLSHandshake{}, fmt.Errorf("%w: a tls_handshake of role %d", ErrUndecodable, fixed.Ends.Role)
	}
	if err := checkOrder(fixed.Opened, fixed.Start); err != nil {
		return TLSHandshake{}, err
	}
	e := TLSHandshake{WireTlsHandshake: fixed, ClientHello: hellos[:client], ServerHello: hellos[client:]}
	return e, checkOrder(e.Start, e.Header.Time)
}

// IsServer says that this end received the ClientHello.
func (e TLSHandshake) IsServer() bool { return e.Ends.Role == RoleServer }

// IsEstablished says that the handshake came to its end.
func (e TLSHandshake) IsEstablished() bool { return e.Flags&TLSEstablished != 0 }

// HasAlert says that an alert ended it, whose number is known.
func (e TLSHandshake) HasAlert() bool { return e.Flags&TLSAlert != 0 }

// AlertSender is the role of the end that sent the alert; empty if there was none.
func (e TLSHandshake) AlertSender() string {
	if e.Flags&(TLSAlert|TLSEncryptedAlert) == 0 {
		return ""
	}
	if e.IsServer() == (e.Flags&TLSAlertReceived != 0) {
		return "client"
	}
	return "server"
}

// ErrorType of a handshake that failed; empty for others.
func (e TLSHandshake) ErrorType() string {
	return handshakeError(e.Flags, e.Alert, e.Error, e.IsServer())
}

func handshakeError(flags uint16, alert uint8, errno int32, isServer bool) string {
	switch {
	case flags&TLSEstablished != 0:
		return ""
	case flags&TLSAlert != 0:
		if name, ok := alerts[alert]; ok {
			return name
		}
		return ErrorOther
	case flags&TLSEncryptedAlert != 0:
		return ErrorEncryptedAlert
	case flags&TLSNotTLS != 0:
		return ErrorInvalidResponse
	case errno != 0:
		return ErrorType(errno)
	case flags&TLSClosedHere != 0 && !isServer:
		return ErrorCanceled
	case flags&TLSAborted != 0:
		return ErrorConnectionReset
	default:
		return ErrorConnectionClosed
	}
}
