// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package event_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

func TestSignalNamesAreLinux(t *testing.T) {
	for number := 1; number < 32; number++ {
		assert.Equal(t, unix.SignalName(unix.Signal(number)), event.SignalName(number))
	}
}

func TestErrnosAreLinux(t *testing.T) {
	for errno, want := range map[unix.Errno]string{
		unix.EPIPE:         event.ErrorConnectionReset,
		unix.ECONNRESET:    event.ErrorConnectionReset,
		unix.ECONNREFUSED:  event.ErrorConnectionRefused,
		unix.ETIMEDOUT:     event.ErrorTimedOut,
		unix.EHOSTUNREACH:  event.ErrorHostUnreachable,
		unix.ENETUNREACH:   event.ErrorNetworkUnreachable,
		unix.EADDRNOTAVAIL: "address_not_available",
		unix.ECONNABORTED:  "connection_aborted",
		unix.EPROTO:        event.ErrorOther,
	} {
		assert.Equal(t, want, event.ErrorType(int32(errno)), errno)
	}
}
