// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tls_test

import (
	cryptotls "crypto/tls"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/tls"
)

func TestSuiteNames(t *testing.T) {
	for _, suite := range slices.Concat(cryptotls.CipherSuites(), cryptotls.InsecureCipherSuites()) {
		assert.Equal(t, suite.Name, tls.SuiteName(suite.ID))
	}
	for suite, want := range map[uint16]string{
		0x009e: "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256", 0xc028: "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384", 0xccaa: "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
		0x1304: "TLS_AES_128_CCM_SHA256", 0x1a1a: "0x1A1A", 0x0000: "0x0000",
	} {
		assert.Equal(t, want, tls.SuiteName(suite))
	}
}

func TestGroupNames(t *testing.T) {
	for group, want := range map[cryptotls.CurveID]string{
		cryptotls.CurveP256: "secp256r1", cryptotls.X25519: "x25519", cryptotls.X25519MLKEM768: "X25519MLKEM768",
		cryptotls.SecP384r1MLKEM1024: "SecP384r1MLKEM1024", 0: "", 0x1a1a: "",
	} {
		assert.Equal(t, want, tls.GroupName(uint16(group)))
	}
}
