// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func init() {
	workloads["ask"] = ask
	workloads["askInVain"] = askInVain
}

// asker sends queries on one connection.
type asker struct {
	net.Conn
	tcp    bool
	lastID uint16
}

func dialServer(network, address string) (*asker, error) {
	conn, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	return &asker{Conn: conn, tcp: network == "tcp"}, conn.SetDeadline(time.Now().Add(patience))
}

// again has a new connection take the place of the one before.
func (a *asker) again() error {
	next, err := dialServer(a.RemoteAddr().Network(), a.RemoteAddr().String())
	if err != nil {
		return err
	}
	before := a.Conn
	a.Conn = next.Conn
	return before.Close()
}

// atOnce is how many names are asked for before any answer is read. dnsmasq takes 100 queries on a
// TCP connection, which are four for each name.
const atOnce = 25

// ask NETWORK ADDRESS COUNT asks for the addresses and a text of COUNT names that exist, and for the
// address of as many that do not. Over UDP all is asked by one socket, and at the end for more than
// fits, which is asked for again over TCP.
func ask(args []string) error {
	network, address, count := args[0], args[1], number(args[2])
	conn, err := dialServer(network, address)
	for first := int64(0); err == nil && first < count; first += atOnce {
		if conn.tcp && first > 0 {
			err = conn.again()
		}
		err = errors.Join(err, conn.askForSome(first, min(first+atOnce, count)))
	}
	if err != nil || conn.tcp {
		return err
	}
	return errors.Join(conn.askAlone("big.test."), conn.Close(), retryByTCP(address, conn.lastID))
}

func (a *asker) askForSome(first, last int64) error {
	for i := first; i < last; i++ {
		if err := a.askForAll(fmt.Sprintf("%s%d", a.RemoteAddr().Network(), i)); err != nil {
			return err
		}
	}
	for range 4 * (last - first) {
		if err := a.receive(); err != nil {
			return err
		}
	}
	return nil
}

func (a *asker) askForAll(name string) error {
	return errors.Join(
		a.send(name+".found.test.", dnsmessage.TypeA),
		a.send(name+".found.test.", dnsmessage.TypeAAAA),
		a.send("text.test.", dnsmessage.TypeTXT),
		a.send("missing"+name+".test.", dnsmessage.TypeA))
}

func (a *asker) askAlone(name string) error {
	return errors.Join(a.send(name, dnsmessage.TypeTXT), a.receive())
}

func retryByTCP(address string, id uint16) error {
	conn, err := dialServer("tcp", address)
	if err != nil {
		return err
	}
	conn.lastID = id - 1
	return errors.Join(conn.askAlone("big.test."), conn.Close())
}

// send a query with an id of its own.
func (a *asker) send(name string, kind dnsmessage.Type) error {
	a.lastID++
	query := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: a.lastID, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}},
	}
	bytes, err := query.Pack()
	if err != nil {
		return err
	}
	if a.tcp {
		bytes = append([]byte{byte(len(bytes) >> 8), byte(len(bytes))}, bytes...)
	}
	_, err = a.Write(bytes)
	return err
}

func (a *asker) receive() error {
	var size [2]byte
	if !a.tcp {
		_, err := a.Read(make([]byte, 1<<16))
		return err
	}
	if _, err := io.ReadFull(a, size[:]); err != nil {
		return err
	}
	_, err := io.CopyN(io.Discard, a, int64(size[0])<<8|int64(size[1]))
	return err
}

// askInVain ADDRESS sends a query twice, and waits for no answer.
func askInVain(args []string) error {
	conn, err := dialServer("udp", args[0])
	if err != nil {
		return err
	}
	first := conn.send("nobody.test.", dnsmessage.TypeA)
	conn.lastID--
	return errors.Join(first, conn.send("nobody.test.", dnsmessage.TypeA), conn.Close())
}
