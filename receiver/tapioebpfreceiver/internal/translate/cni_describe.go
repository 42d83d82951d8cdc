// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
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
func (o *operations) describeOperation(attributes *attributeList, op *operation) {
	attributes.EnsureCapacity(operationAttributes)
	if op.runnerPID != 0 {
		attributes.PutInt(attrProcessPID, int64(op.runnerPID))
	}
	attributes.putKnown(attrProcessExecutableName, op.runnerName)
	putEnvironment(attributes, &op.environment, op.netns)
	attributes.putStrings(attrCNIPlugins, op.plugins)
	putFailure(attributes, op.failure)
}

func (o *operations) describeRun(attributes *attributeList, run *pluginRun, e *event.CNIEnded, f *failure, p *identity.Process) {
	attributes.EnsureCapacity(runAttributes)
	if p != nil {
		o.identify(attributes, p)
	} else {
		o.putOwner(attributes, e.Header.Pid, nil)
	}
	attributes.putKnown(attrCNIPluginName, run.plugin)
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

func putEnvironment(attributes *attributeList, e *cni.Environment, netns uint32) {
	attributes.putKnown(attrCNICommand, e.Command)
	attributes.putKnown(attrContainerID, e.ContainerID)
	attributes.putKnown(attrNetworkInterface, e.Interface)
	attributes.putKnown(attrCNINetnsPath, e.Netns)
	if netns != 0 {
		attributes.PutInt(attrCNINetnsInode, int64(netns))
	}
	attributes.putKnown(attrK8sNamespaceName, e.Pod.Namespace)
	attributes.putKnown(attrK8sPodName, e.Pod.Name)
	attributes.putKnown(attrK8sPodUID, e.Pod.UID)
}

func putFailure(attributes *attributeList, f *failure) {
	if f == nil {
		return
	}
	attributes.PutStr(attrErrorType, f.errorType)
	if f.Code != 0 {
		attributes.PutInt(attrCNIErrorCode, f.Code)
	}
	attributes.putKnown(attrCNIErrorMessage, f.Message)
	attributes.putKnown(attrCNIErrorDetails, f.Details)
	if f.Plain {
		attributes.PutBool(attrCNIErrorUnparsed, true)
	}
}

func (o *operations) describeNamespace(attributes *attributeList, e *bpf.WireCniNamespace, change netnsChange, p *identity.Process) {
	if p != nil {
		o.identify(attributes, p)
	} else {
		o.putOwner(attributes, e.Header.Pid, nil)
	}
	if e.Inode != 0 {
		attributes.PutInt(attrCNINetnsInode, int64(e.Inode))
	}
	if change.name == changeDelete {
		attributes.putKnown(attrCNINetnsPath, o.paths[e.Inode])
		if e.Made != 0 {
			attributes.PutDouble(attrCNINetnsAge, elapsed(e.Made, e.Header.Time))
		}
	}
	attributes.putKnown(attrErrorType, change.errorType)
}
