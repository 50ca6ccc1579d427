/*
 * JDBC (pgjdbc 42.2.6 or later): write on the primary, read it back on a standby.
 *
 *     PRIMARY_URL=... STANDBY_URL=... java -cp /usr/share/java/postgresql.jar Jdbc.java
 *
 * The token comes with the write, as ParameterStatus: asking the connection for
 * it is no round trip.
 */
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;

import org.postgresql.PGConnection;

public class Jdbc {
    public static void main(String[] args) throws SQLException {
        try (Connection primary = DriverManager.getConnection("jdbc:" + System.getenv("PRIMARY_URL"));
             Connection standby = DriverManager.getConnection("jdbc:" + System.getenv("STANDBY_URL"))) {
            long id;
            try (PreparedStatement insert = primary.prepareStatement(
                    "INSERT INTO notes (body) VALUES (?) RETURNING id")) {
                insert.setString(1, "hello from JDBC");
                ResultSet written = insert.executeQuery();
                written.next();
                id = written.getLong(1);
            }
            String token = primary.unwrap(PGConnection.class).getParameterStatus("tcs.session_token");
            System.out.println("token: " + token);

            // pgjdbc sends both statements together, and with autocommit they
            // are one transaction.  SET takes no parameters; set_config() does,
            // and its "true" means SET LOCAL.
            String body = null;
            try (PreparedStatement select = standby.prepareStatement(
                    "SELECT set_config('tcs.session_token', ?, true); SELECT body FROM notes WHERE id = ?")) {
                select.setString(1, token);
                select.setLong(2, id);
                select.execute();
                select.getMoreResults();
                ResultSet read = select.getResultSet();
                if (read.next()) {
                    body = read.getString(1);
                }
            }
            System.out.println("standby: " + (body != null ? body : "no such row"));

            if (token == null || token.isEmpty() || body == null) {
                System.exit(1);
            }
        }
    }
}
