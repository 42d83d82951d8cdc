// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package etcdwatch // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/etcdwatch"

import (
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// askError is why etcd did not answer.
type askError struct{ status *status.Status }

func (e askError) Error() string {
	switch e.status.Code() {
	case codes.PermissionDenied:
		return "ask etcd: " + e.status.Message() + ": its user must have the right to read the prefix"
	case codes.Unauthenticated, codes.InvalidArgument:
		return "ask etcd: " + e.status.Message() + ": see username and password"
	case codes.DeadlineExceeded:
		return "ask etcd: no answer within " + answerIn.String()
	default:
		return "ask etcd: " + e.status.Message()
	}
}

// Unwrap gives the status's own error.
func (e askError) Unwrap() error { return e.status.Err() }

// isUnreachable says that it was not etcd that refused.
func isUnreachable(err error) bool {
	var e askError
	return errors.As(err, &e) && (e.status.Code() == codes.Unavailable || e.status.Code() == codes.DeadlineExceeded)
}
