// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"slices"
	"strings"
	"time"
)

func init() {
	workloads["tls"] = tlsWorkload
}

const tlsName = "shop.example"

// handshakeCase is how a client and a server of crypto/tls talk.
type handshakeCase struct {
	Address                            string // the server's; "": 127.0.0.1:0
	Version                            uint16 // of both
	ServerVersion                      uint16 // that the server wants at least
	ClientCurves, ServerCurves         []tls.CurveID
	Protocols                          []string // of both
	ManyProtocols                      int      // names that the client offers, so that its hello is large
	ClientCertificate, WantCertificate bool
	Distrust                           bool // the client does not know the server's authority
	Times                              int  // connections, one after the other, that go on with the session
	Split                              int  // bytes that each end writes together, at the most
	Slow                               time.Duration
	Server                             string // "": serves; "silent", "close" after the hello, "reset", "plain", "retry", "short"
	Preface                            string // what both say before, in the clear
	Defer                              bool   // the kernel accepts when the first bytes come
	Asked                              bool   // the workload says that it is connected, and goes on when it is sent a line
}

// handshakeTruth is what the two ends know of a handshake.
type handshakeTruth struct {
	Version, CipherSuite uint16
	Protocol             string
	Resumed              bool
	Took                 time.Duration // of the client
	Client, Server       string        // errors
}

// tlsWorkload is both ends; it prints what they know, a line each.
func tlsWorkload(args []string) error {
	var c handshakeCase
	if err := json.Unmarshal([]byte(args[0]), &c); err != nil {
		return err
	}
	authority, pool, err := newAuthority()
	if err != nil {
		return err
	}
	listener, err := script{Address: c.address(), Defer: c.Defer}.listen()
	if err != nil {
		return err
	}
	defer listener.Close()
	client, server := c.configs(authority, pool)
	for range max(1, c.Times) {
		truth, err := c.talk(listener, client, server)
		if err != nil {
			return err
		}
		if err := json.NewEncoder(os.Stdout).Encode(truth); err != nil {
			return err
		}
	}
	return nil
}

func (c handshakeCase) address() string {
	if c.Address == "" {
		return "127.0.0.1:0"
	}
	return c.Address
}

func newAuthority() (tls.Certificate, *x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: tlsName}, DNSNames: []string{tlsName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool, nil
}

func (c handshakeCase) configs(authority tls.Certificate, pool *x509.CertPool) (client, server *tls.Config) {
	client = &tls.Config{
		ServerName: tlsName, RootCAs: pool, MinVersion: tls.VersionTLS10, MaxVersion: c.Version,
		CurvePreferences: c.ClientCurves, NextProtos: c.Protocols, ClientSessionCache: tls.NewLRUClientSessionCache(4),
	}
	for i := range c.ManyProtocols {
		client.NextProtos = append(client.NextProtos, fmt.Sprintf("%s-%d", strings.Repeat("p", 200), i))
	}
	if c.Distrust {
		client.RootCAs = x509.NewCertPool()
	}
	if c.ClientCertificate {
		client.Certificates = []tls.Certificate{authority}
	}
	server = &tls.Config{
		Certificates: []tls.Certificate{authority}, MinVersion: max(c.ServerVersion, tls.VersionTLS10), CurvePreferences: c.ServerCurves,
		NextProtos: c.Protocols, ClientCAs: pool,
	}
	if c.WantCertificate {
		server.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if c.Slow > 0 {
		server.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
			time.Sleep(c.Slow)
			return nil, nil
		}
	}
	return client, server
}

func (c handshakeCase) talk(listener net.Listener, client, server *tls.Config) (handshakeTruth, error) {
	var truth handshakeTruth
	done := make(chan error, 1)
	go func() { done <- c.serve(listener, server, &truth) }()
	connection, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return truth, err
	}
	defer connection.Close()
	if c.Asked {
		fmt.Println("open")
		if _, err := fmt.Scanln(); err != nil && !errors.Is(err, io.EOF) {
			return truth, err
		}
	}
	if err := c.ask(connection, client, &truth); err != nil {
		return truth, err
	}
	return truth, <-done
}

// ask is the client's end.
func (c handshakeCase) ask(connection net.Conn, config *tls.Config, truth *handshakeTruth) error {
	if c.Preface != "" {
		if err := exchangePreface(connection, c.Preface); err != nil {
			return err
		}
	}
	if err := connection.SetDeadline(time.Now().Add(c.patience())); err != nil {
		return err
	}
	over := tls.Client(split{connection, c.Split}, config)
	began := time.Now()
	err := over.HandshakeContext(context.Background())
	truth.Took = time.Since(began)
	if err != nil {
		truth.Client = err.Error()
		return connection.Close()
	}
	state := over.ConnectionState()
	truth.Version, truth.CipherSuite = state.Version, state.CipherSuite
	truth.Protocol, truth.Resumed = state.NegotiatedProtocol, state.DidResume
	if _, err := io.WriteString(over, "hello"); err != nil {
		truth.Client = err.Error()
		return nil
	}
	if _, err := io.ReadFull(over, make([]byte, len("hello"))); err != nil { // with it, session tickets
		truth.Client = err.Error()
	}
	truth.Took = time.Since(began) // what was written last may have been in the socket for a while
	return over.Close()
}

// patience is how long the client waits.
func (c handshakeCase) patience() time.Duration {
	if c.Server == "silent" {
		return 200 * time.Millisecond
	}
	return 20 * time.Second
}

// serve is the server's end of one connection.
func (c handshakeCase) serve(listener net.Listener, config *tls.Config, truth *handshakeTruth) error {
	connection, err := listener.Accept()
	if err != nil {
		return err
	}
	defer connection.Close()
	if c.Preface != "" {
		if err := exchangePreface(connection, c.Preface); err != nil {
			return err
		}
	}
	if c.Server != "" {
		return c.fail(connection.(*net.TCPConn))
	}
	over := tls.Server(split{connection, c.Split}, config)
	if _, err := io.Copy(over, over); err != nil {
		truth.Server = err.Error()
	}
	return nil
}

// fail does what is no handshake.
func (c handshakeCase) fail(connection *net.TCPConn) error {
	if _, err := connection.Read(make([]byte, 8192)); err != nil {
		return err
	}
	switch c.Server {
	case "plain":
		_, err := io.WriteString(connection, "HTTP/1.1 400 Bad Request\r\n\r\n")
		return err
	case "retry", "short":
		if _, err := connection.Write(answers[c.Server]); err != nil {
			return err
		}
		fallthrough
	case "silent":
		_, err := io.Copy(io.Discard, connection)
		return err
	case "reset":
		return connection.SetLinger(0)
	default:
		return nil
	}
}

// answers are a ServerHello that asks for another ClientHello (RFC 8446, section 4.1.3), as far as that tells, and one that
// is too short to ask for anything.
var answers = map[string][]byte{
	"retry": slices.Concat([]byte("\x16\x03\x03\x00\x2a\x02\x00\x00\x26\x03\x03"), asksForAnother[:], []byte("\x00\x13\x01\x00")),
	"short": []byte("\x16\x03\x03\x00\x04\x02\x00\x00\x00"),
}

var asksForAnother = sha256.Sum256([]byte("HelloRetryRequest"))

func exchangePreface(connection net.Conn, text string) error {
	if _, err := io.WriteString(connection, text); err != nil {
		return err
	}
	_, err := io.ReadFull(connection, make([]byte, len(text)))
	return err
}

// split writes few bytes together; 0: as many as there are.
type split struct {
	net.Conn
	size int
}

func (s split) Write(b []byte) (n int, err error) {
	if s.size == 0 {
		return s.Conn.Write(b)
	}
	for len(b) > 0 {
		wrote, err := s.Conn.Write(b[:min(s.size, len(b))])
		n += wrote
		if err != nil {
			return n, err
		}
		b = b[wrote:]
	}
	return n, nil
}
