// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// refusedFrom is what a client gets of a server that is not there, from another port each time.
func refusedFrom(port int) error {
	return &url.Error{Op: "Get", URL: "https://api/", Err: &net.OpError{
		Op: "dial", Net: "tcp", Source: &net.TCPAddr{Port: port}, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED),
	}}
}

func TestEachCauseIsToldOnce(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	var told []error
	h := &health{logger: zap.New(core), failing: map[string]error{}, onChange: func(err error) { told = append(told, err) }}
	pods := schema.GroupResource{Resource: "pods"}
	for _, err := range []error{
		nil,
		refusedFrom(1000), refusedFrom(1001), // told once
		&url.Error{Op: "Get", URL: "https://api/", Err: x509.UnknownAuthorityError{}},
		fmt.Errorf("list pods: %w", apierrors.NewForbidden(pods, "", errors.New("no"))),
		fmt.Errorf("list pods: %w", apierrors.NewForbidden(pods, "", errors.New("no"))),
		apierrors.NewUnauthorized("no"),
		&net.DNSError{Err: "no such host", Name: "api"},
		nil, nil,
	} {
		h.report("pods", err)
	}
	assert.Len(t, told, 6)
	assert.Equal(t, 6, logs.Len())
	assert.NoError(t, told[5])
	assert.ErrorIs(t, told[0], syscall.ECONNREFUSED)
}
