// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package porttest // import "github.com/tapio-io/otelcol-tapio/internal/porttest"

import (
	"net"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Closed is the address, on loopback, of a port that nobody can listen on until the test is over: it is taken, but not listened on. The
// network is tcp4 or tcp6.
func Closed(t testing.TB, network string) string {
	t.Helper()
	family, address := syscall.AF_INET, syscall.Sockaddr(&syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	if network == "tcp6" {
		family, address = syscall.AF_INET6, &syscall.SockaddrInet6{Addr: [16]byte{15: 1}}
	}
	socket, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, syscall.Close(socket)) })
	require.NoError(t, syscall.Bind(socket, address))
	bound, err := syscall.Getsockname(socket)
	require.NoError(t, err)
	if v6, ok := bound.(*syscall.SockaddrInet6); ok {
		return net.JoinHostPort("::1", strconv.Itoa(v6.Port))
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(bound.(*syscall.SockaddrInet4).Port))
}
