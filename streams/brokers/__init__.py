"""The embedded broker, a real Apache Kafka, and the administration of topics on any cluster."""
