//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Copyright The otelcol-tapio Authors

/* What belongs to no family: the records' types for Go, and the question who we are. */
#include "kernel.h"
#include "atomic.h"
#include "event.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* A type is in the object's BTF, from which Go's is made, only if something refers to it. */
#define FOR_GO(type) struct type *for_go_##type __attribute__((unused))

FOR_GO(event_header);
FOR_GO(process_exec);
FOR_GO(running_executable);
FOR_GO(process_fork);
FOR_GO(process_exit);
FOR_GO(process_oom_kill);
FOR_GO(connection_connect);
FOR_GO(connection_stats);
FOR_GO(tls_handshake);
FOR_GO(dns_message);
FOR_GO(http_exchange);
FOR_GO(cgroup_change);
FOR_GO(security_action);
FOR_GO(cni_began);
FOR_GO(cni_ended);
FOR_GO(cni_namespace);
FOR_GO(etcd_call);
FOR_GO(etcd_change);
FOR_GO(event_counters);
FOR_GO(limit_key);
FOR_GO(limit_state);
FOR_GO(throttling);
FOR_GO(http_sum);
FOR_GO(connection_sum);
FOR_GO(process_sum);
FOR_GO(tls_sum);
enum event_type for_go_event_type __attribute__((unused));
enum event_family for_go_event_family __attribute__((unused));
enum process_exec_flags for_go_process_exec_flags __attribute__((unused));
enum process_exit_flags for_go_process_exit_flags __attribute__((unused));
enum connection_role for_go_connection_role __attribute__((unused));
enum connection_flags for_go_connection_flags __attribute__((unused));
enum cause_flags for_go_cause_flags __attribute__((unused));
enum tls_flags for_go_tls_flags __attribute__((unused));
enum dns_flags for_go_dns_flags __attribute__((unused));
enum http_flags for_go_http_flags __attribute__((unused));
enum security_kind for_go_security_kind __attribute__((unused));
enum security_operation for_go_security_operation __attribute__((unused));
enum security_flags for_go_security_flags __attribute__((unused));
enum cni_began_flags for_go_cni_began_flags __attribute__((unused));
enum cni_ended_flags for_go_cni_ended_flags __attribute__((unused));
enum etcd_operation for_go_etcd_operation __attribute__((unused));
enum etcd_change_kind for_go_etcd_change_kind __attribute__((unused));
enum throttling_flags for_go_throttling_flags __attribute__((unused));
enum http_method_number for_go_http_method_number __attribute__((unused));
enum etcd_change_flags for_go_etcd_change_flags __attribute__((unused));

/*
 * Run once by the loader, never attached: the pid that the other programs will see for it, which
 * in a container is not the one that it sees itself.
 */
SEC("raw_tp")
int own_pid(void *ctx)
{
	return bpf_get_current_pid_tgid() >> 32;
}

/* Never attached: loaded to find out whether this kernel knows what is in atomic.h. */
SEC("cgroup_skb/egress")
int exchange_words(struct __sk_buff *skb)
{
	__u64 word = 0;

	take_word(&word, 1);
	release_word(&word);
	return 1;
}
