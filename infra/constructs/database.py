"""The tracking server's database: PostgreSQL without a public address and without a password."""

from __future__ import annotations

from cdktf_cdktf_provider_google.compute_network import ComputeNetwork
from cdktf_cdktf_provider_google.service_networking_connection import ServiceNetworkingConnection
from cdktf_cdktf_provider_google.sql_database import SqlDatabase
from cdktf_cdktf_provider_google.sql_database_instance import SqlDatabaseInstance
from cdktf_cdktf_provider_google.sql_user import SqlUser
from constructs import Construct

from infra.cdk import blocks
from infra.environments import Deployment

VERSION = "POSTGRES_18"
DATABASE = "mlflow"

_FLAGS = {
    # Service accounts log in with their own tokens: nobody has a password to lose.
    "cloudsql.iam_authentication": "on",
    "cloudsql.enable_pgaudit": "on",
    "log_checkpoints": "on",
    "log_connections": "on",
    "log_disconnections": "on",
    "log_duration": "on",
    "log_hostname": "on",
    "log_lock_waits": "on",
    "log_min_duration_statement": "-1",
    "log_min_error_statement": "error",
    "log_min_messages": "warning",
    "log_statement": "ddl",
    "pgaudit.log": "ddl,role",
}


class Database(Construct):
    """A Cloud SQL instance that only the tracking server's account can use, through Cloud SQL's proxy."""

    def __init__(
        self,
        scope: Construct,
        deployment: Deployment,
        network: ComputeNetwork,
        services: ServiceNetworkingConnection,
    ) -> None:
        super().__init__(scope, "database")
        cloud, names, size = deployment.cloud, deployment.names, deployment.cloud.sizes.database
        instance = SqlDatabaseInstance(
            self,
            "instance",
            name=names.database_instance,
            region=cloud.region,
            database_version=VERSION,
            deletion_protection=cloud.protected,
            settings={
                # Newer versions default to ENTERPRISE_PLUS, which has no small tiers.
                "edition": "ENTERPRISE",
                "tier": size.tier,
                "availability_type": "REGIONAL" if size.zones == 2 else "ZONAL",
                "disk_size": size.disk_gb,
                "disk_autoresize": True,
                "deletion_protection_enabled": cloud.protected,
                "database_flags": blocks(*({"name": name, "value": value} for name, value in _FLAGS.items())),
                "ip_configuration": {
                    "ipv4_enabled": False,
                    "private_network": network.id,
                    "ssl_mode": "TRUSTED_CLIENT_CERTIFICATE_REQUIRED",
                },
                "backup_configuration": {
                    "enabled": True,
                    "start_time": "02:00",
                    "point_in_time_recovery_enabled": cloud.protected,
                    "backup_retention_settings": {"retained_backups": size.backups},
                },
                "maintenance_window": {"day": 7, "hour": 3, "update_track": "stable"},
                "insights_config": {"query_insights_enabled": True},
            },
            depends_on=[services],
            # The disk grows by itself; terraform must not shrink it.
            lifecycle={"ignore_changes": ["settings[0].disk_size"]},
        )
        SqlDatabase(self, "database", name=DATABASE, instance=instance.name, deletion_policy="ABANDON")
        SqlUser(
            self,
            "user",
            # PostgreSQL knows a service account by its address without the last part.
            name=names.account("mlflow_server").removesuffix(".gserviceaccount.com"),
            instance=instance.name,
            type="CLOUD_IAM_SERVICE_ACCOUNT",
            deletion_policy="ABANDON",
        )
