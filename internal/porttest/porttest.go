// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package porttest has ports for tests that run beside others.
package porttest // import "github.com/tapio-io/otelcol-tapio/internal/porttest"

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// The ports that Free chooses from are below those that Linux chooses for connections, and for listeners that ask for
// any (net.ipv4.ip_local_port_range, 32768 to 60999), so that they stay free.
const (
	first = 20000
	count = 12000
)

// handedOut were free, but may be used by now, or soon.
var handedOut sync.Map

// Free is a port that nobody uses on loopback at the moment, for TCP or UDP.
func Free(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := first + rand.N(count)
		if _, taken := handedOut.LoadOrStore(port, true); !taken && isFree(t, port) {
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// FreeAddress is one on loopback, with such a port.
func FreeAddress(t testing.TB) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(Free(t)))
}

func isFree(t testing.TB, port int) bool {
	t.Helper()
	for _, host := range []string{"127.0.0.1", "::1"} {
		address := net.JoinHostPort(host, strconv.Itoa(port))
		listener, err := net.Listen("tcp", address)
		if errors.Is(err, syscall.EADDRINUSE) {
			return false
		}
		if err != nil {
			continue // there is no such family of addresses
		}
		require.NoError(t, listener.Close())
		socket, err := net.ListenPacket("udp", address)
		if err != nil {
			return false
		}
		require.NoError(t, socket.Close())
	}
	return true
}
