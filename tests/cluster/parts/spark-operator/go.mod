module endcap.dev/tests/cluster/spark-operator

go 1.26

// Of the operator only the definition of its kinds is read; nothing is built.
require github.com/kubeflow/spark-operator/v2 v2.5.2
