// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strconv"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/internal/porttest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

func init() {
	workloads["ask"] = askWorkload
}

// askWorkload is a server at args[1] and a client of it: messages of the sizes args[2:] are sent and
// come back as they are, over args[0].
func askWorkload(args []string) error {
	client, server, err := connectedPair(args[0], args[1])
	if err != nil {
		return err
	}
	defer client.Close()
	go echo(server)
	for _, size := range args[2:] {
		message := numbered(number(size))
		if _, err := client.Write(message); err != nil {
			return err
		}
		if _, err := io.ReadFull(client, message); err != nil {
			return err
		}
	}
	return nil
}

func numbered(size int) []byte {
	message := make([]byte, size)
	for i := range message {
		message[i] = byte(i * 7)
	}
	return message
}

type echoer func(buffer []byte) error

func echo(e echoer) {
	buffer := make([]byte, 1<<16)
	for {
		if e(buffer) != nil {
			return
		}
	}
}

// connectedPair is a client and what its server does for each message.
func connectedPair(network, address string) (net.Conn, echoer, error) {
	if network == "udp" {
		server, err := net.ListenPacket(network, address)
		if err != nil {
			return nil, nil, err
		}
		client, err := net.Dial(network, address)
		return client, func(buffer []byte) error {
			n, from, err := server.ReadFrom(buffer)
			if err == nil {
				_, err = server.WriteTo(buffer[:n], from)
			}
			return err
		}, err
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		return nil, nil, err
	}
	client, err := net.Dial(network, address)
	if err != nil {
		return nil, nil, err
	}
	server, err := listener.Accept()
	return client, func(buffer []byte) error {
		n, readErr := server.Read(buffer)
		_, writeErr := server.Write(buffer[:n])
		return errors.Join(readErr, writeErr)
	}, err
}

// portOfDNS is the same in all tests, so that they share a source.
var portOfDNS uint16

func withDNS(t *testing.T) func(*Options) {
	t.Helper()
	if portOfDNS == 0 {
		portOfDNS = uint16(porttest.Free(t))
	}
	return func(o *Options) {
		o.Families = []string{familyDNS}
		o.DNSPorts = []uint16{portOfDNS}
	}
}

func decodeDNS(t *testing.T, record []byte) (bpf.WireDnsMessage, []byte) {
	t.Helper()
	var wire bpf.WireDnsMessage
	_, err := binary.Decode(record, binary.LittleEndian, &wire)
	require.NoError(t, err)
	payload := record[unsafe.Sizeof(wire):]
	require.LessOrEqual(t, int(wire.Captured), len(payload))
	return wire, payload[:wire.Captured]
}

func TestDNSMessages(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			w := newWorld(t, withDNS(t))
			sizes := []string{"1", "12", "128", "129", "512", "513", "4096", "4097", "20000"}
			address := net.JoinHostPort(host, strconv.Itoa(int(portOfDNS)))
			command := w.workload("ask", append([]string{"udp", address}, sizes...)...)
			require.NoError(t, command.Run())
			w.finish()
			records := w.ofType(event.Type(bpf.WireEventTypeDNS_MESSAGE))
			require.Len(t, records, 2*len(sizes), "only the client's side")
			for i, record := range records {
				e, payload := decodeDNS(t, record)
				size := number(sizes[i/2])
				assert.Equal(t, uint32(size), e.Size)
				assert.Equal(t, numbered(size)[:min(size, 16384)], payload)
				assert.Equal(t, i%2 == 0, e.Flags&uint32(bpf.WireDnsFlagsDNS_SENT) != 0)
				assert.Equal(t, portOfDNS, e.Ends.PeerPort)
				assert.Equal(t, uint32(command.Process.Pid), e.Header.Pid)
				assert.NotZero(t, e.Header.StartTime)
				assert.NotZero(t, e.Header.CgroupId)
				assert.NotZero(t, e.Socket)
				assert.NotZero(t, e.Ends.Netns)
			}
			assert.Equal(t, source.Counters{Seen: uint64(len(records))}, w.counters()[uint8(bpf.WireEventFamilyFAMILY_DNS)])
		})
	}
}

func TestDNSSegments(t *testing.T) {
	w := newWorld(t, withDNS(t))
	sizes := []string{"30", "700", "5000"}
	require.NoError(t, w.workload("ask", append([]string{"tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(portOfDNS)))}, sizes...)...).Run())
	w.finish()
	streams := map[bool][]byte{}
	next := map[bool]uint32{}
	for _, record := range w.ofType(event.Type(bpf.WireEventTypeDNS_SEGMENT)) {
		e, payload := decodeDNS(t, record)
		sent := e.Flags&uint32(bpf.WireDnsFlagsDNS_SENT) != 0
		assert.Equal(t, portOfDNS, e.Ends.PeerPort)
		if streams[sent] != nil {
			assert.Equal(t, next[sent], e.Sequence)
		}
		next[sent] = e.Sequence + e.Size
		streams[sent] = append(streams[sent], payload...)
	}
	var want []byte
	for _, size := range sizes {
		want = append(want, numbered(number(size))...)
	}
	assert.Equal(t, map[bool][]byte{true: want, false: want}, streams)
}

func TestOtherPortsAreNotDNS(t *testing.T) {
	w := newWorld(t, withDNS(t))
	require.NoError(t, w.workload("ask", "udp", net.JoinHostPort("127.0.0.1", strconv.Itoa(porttest.Free(t))), "30").Run())
	w.finish()
	assert.Empty(t, w.ofType(event.Type(bpf.WireEventTypeDNS_MESSAGE)))
}
