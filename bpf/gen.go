// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package bpf

//go:generate go tool bpf2go -go-package bpf -target bpfel,bpfeb -output-stem common -no-global-types -type event_type -type event_family -type process_exec_flags -type process_exit_flags -type connection_role -type connection_flags -type cause_flags -type tls_flags -type dns_flags -type http_flags -type security_kind -type security_operation -type security_flags -type cni_began_flags -type cni_ended_flags -type etcd_operation -type etcd_change_kind -type etcd_change_flags -type event_header -type process_identity -type connection_ends -type cause -type process_exec -type running_executable -type process_fork -type process_exit -type process_oom_kill -type connection_connect -type connection_stats -type tls_handshake -type dns_message -type http_exchange -type cgroup_change -type credentials -type security_action -type cni_began -type cni_ended -type cni_namespace -type etcd_call -type etcd_change -type event_counters -type limit_key -type limit_state -type throttling -type throttling_flags -type http_method_number -type http_sum_key -type http_sums -type http_sum -type connection_sum_key -type connection_sums -type connection_sum -type process_sum_key -type process_sums -type process_sum -type tls_sum_key -type tls_sums -type tls_sum Wire common.bpf.c -- -O2 -g -Wall -Werror -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -go-package bpf -target bpfel,bpfeb -no-global-types Process process.bpf.c -- -O2 -g -Wall -Werror -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -go-package bpf -target bpfel,bpfeb -no-global-types Network network.bpf.c -- -O2 -g -Wall -Werror -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -go-package bpf -target bpfel,bpfeb -no-global-types Cgroup cgroup.bpf.c -- -O2 -g -Wall -Werror -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -go-package bpf -target bpfel,bpfeb -no-global-types Executable executable.bpf.c -- -O2 -g -Wall -Werror -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -go-package bpf -target bpfel,bpfeb -no-global-types Security security.bpf.c -- -O2 -g -Wall -Werror -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -go-package bpf -target bpfel,bpfeb -no-global-types CNI cni.bpf.c -- -O2 -g -Wall -Werror -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -go-package bpf -target bpfel,bpfeb -no-global-types Etcd etcd.bpf.c -- -O2 -g -Wall -Werror -I/usr/include/x86_64-linux-gnu
