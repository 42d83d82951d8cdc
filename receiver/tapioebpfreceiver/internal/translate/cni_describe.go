// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/cni"
)

// How many attributes there are as a rule.
const (
	operationAttributes = 14
	runAttributes       = 24
)

// describeOperation: who does it is the runner.
func (o *operations) describeOperation(attributes pcommon.Map, op *operation) {
	attributes.EnsureCapacity(operationAttributes)
	if op.runnerPID != 0 {
		attributes.PutInt(attrProcessPID, int64(op.runnerPID))
	}
	putKnown(attributes, attrProcessExecutableName, op.runnerName)
	putEnvironment(attributes, &op.environment, op.netns)
	putStrings(attributes, attrCNIPlugins, op.plugins)
	putFailure(attributes, op.failure)
}

func (o *operations) describeRun(attributes pcommon.Map, run *pluginRun, e *event.CNIEnded, f *failure, p *identity.Process) {
	attributes.EnsureCapacity(runAttributes)
	if p != nil {
		o.identify(attributes, p)
	} else {
		o.putOwner(attributes, e.Header.Pid, nil)
	}
	putKnown(attributes, attrCNIPluginName, run.plugin)
	putEnvironment(attributes, &run.environment, e.Netns)
	if ending := statusEnding(e.Status); ending.signal != "" {
		attributes.PutStr(attrProcessExitSignal, ending.signal)
	} else {
		attributes.PutInt(attrProcessExitCode, int64(ending.code))
	}
	putFailure(attributes, f)
	if run.flags != 0 || f != nil && f.truncated {
		attributes.PutBool(attrCNITruncated, true)
	}
}

func putEnvironment(attributes pcommon.Map, e *cni.Environment, netns uint32) {
	putKnown(attributes, attrCNICommand, e.Command)
	putKnown(attributes, attrContainerID, e.ContainerID)
	putKnown(attributes, attrNetworkInterface, e.Interface)
	putKnown(attributes, attrCNINetnsPath, e.Netns)
	if netns != 0 {
		attributes.PutInt(attrCNINetnsInode, int64(netns))
	}
	putKnown(attributes, attrK8sNamespaceName, e.Pod.Namespace)
	putKnown(attributes, attrK8sPodName, e.Pod.Name)
	putKnown(attributes, attrK8sPodUID, e.Pod.UID)
}

func putFailure(attributes pcommon.Map, f *failure) {
	if f == nil {
		return
	}
	attributes.PutStr(attrErrorType, f.errorType)
	if f.Code != 0 {
		attributes.PutInt(attrCNIErrorCode, f.Code)
	}
	putKnown(attributes, attrCNIErrorMessage, f.Message)
	putKnown(attributes, attrCNIErrorDetails, f.Details)
	if f.Plain {
		attributes.PutBool(attrCNIErrorUnparsed, true)
	}
}

func (o *operations) describeNamespace(attributes pcommon.Map, e *bpf.WireCniNamespace, change netnsChange, p *identity.Process) {
	if p != nil {
		o.identify(attributes, p)
	} else {
		o.putOwner(attributes, e.Header.Pid, nil)
	}
	if e.Inode != 0 {
		attributes.PutInt(attrCNINetnsInode, int64(e.Inode))
	}
	if change.name == changeDelete {
		putKnown(attributes, attrCNINetnsPath, o.paths[e.Inode])
		if e.Made != 0 {
			attributes.PutDouble(attrCNINetnsAge, elapsed(e.Made, e.Header.Time))
		}
	}
	putKnown(attributes, attrErrorType, change.errorType)
}
